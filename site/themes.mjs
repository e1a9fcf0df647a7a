// How code looks, in the pages of VitePress and in those of source.mjs: themes whose colours can be read by everybody.
export const themes = { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' }
