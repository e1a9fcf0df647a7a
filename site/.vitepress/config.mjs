import { defineConfig } from 'vitepress'
import { out, pages } from '../paths.mjs'
import { sidebar } from '../navigation.mjs'
import { config } from '../markdown.mjs'
import { themes } from '../themes.mjs'

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
  // The pages of files that are no Markdown are made afterwards, by source.mjs.
  ignoreDeadLinks: [/^\/source\//],
  markdown: {
    theme: themes,
    anchor: { slugify: slug },
    toc: { slugify: slug },
    headers: { slugify: slug },
    config,
  },
  vite: { build: { chunkSizeWarningLimit: 5000 } },
  themeConfig: {
    nav: [
      { text: 'Contract', link: '/contract' },
      { text: 'API', link: '/api' },
      { text: 'Operations', link: '/operations' },
    ],
    sidebar: sidebar(),
    outline: { level: [2, 3] },
    externalLinkIcon: false,
    search: {
      provider: 'local',
      options: {
        disableQueryPersistence: true,
        miniSearch: {
          searchOptions: {
            // Whoever searches wants to do something: decisions and measurements come later.
            boostDocument: (id) => /\/(adr|guarantees|bench|scale)/.test(id) ? 0.5 : 1,
          },
        },
      },
    },
  },
})
