import { defineConfig } from 'vitepress'
import { out, pages } from '../paths.mjs'
import { sidebar } from '../navigation.mjs'

// slug names a heading as a repository's browser does (docs/docs_test.go has the same): lower case, spaces as hyphens, no punctuation.
const slug = (text) => text.toLowerCase().replace(/ /g, '-').replace(/[^\p{L}\p{Nd}_-]/gu, '')

export default defineConfig({
  title: 'SSE Gateway',
  description: 'Holds Server-Sent Events streams open for browsers, so that your backend does not have to.',
  lang: 'en-GB',
  srcDir: pages,
  outDir: out,
  base: process.env.BASE ?? '/',
  head: [['link', { rel: 'icon', href: (process.env.BASE ?? '/') + 'icon.svg' }]],
  markdown: {
    anchor: { slugify: slug },
    toc: { slugify: slug },
    headers: { slugify: slug },
    config(md) {
      const fence = md.renderer.rules.fence
      md.renderer.rules.fence = (tokens, i, ...rest) => tokens[i].info.trim() === 'mermaid'
        ? `<Drawing source="${encodeURIComponent(tokens[i].content)}" />`
        : fence(tokens, i, ...rest)
    },
  },
  vue: {
    // Braces in a text are braces.
    template: { compilerOptions: { delimiters: ['[[[[', ']]]]'] } },
  },
  themeConfig: {
    nav: [
      { text: 'Contract', link: '/contract' },
      { text: 'API', link: '/api' },
      { text: 'Operations', link: '/operations' },
    ],
    sidebar: sidebar(),
    outline: { level: [2, 3] },
    search: {
      provider: 'local',
      options: {
        miniSearch: { searchOptions: { boost: { title: 4, titles: 2, text: 1 } } },
      },
    },
  },
})
