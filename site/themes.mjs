// How code looks, in the pages of VitePress and in those of source.mjs.
export const themes = { light: 'github-light', dark: 'github-dark' }
