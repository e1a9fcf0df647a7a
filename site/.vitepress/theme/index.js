import DefaultTheme from 'vitepress/theme-without-fonts'
import { h } from 'vue'
import { withBase } from 'vitepress'
import Drawing from './Drawing.vue'
import './style.css'

export default {
  extends: DefaultTheme,
  Layout: () => h(DefaultTheme.Layout, null, {
    'not-found': () => h('main', { class: 'vp-doc not-found' }, [h('h1', 'There is no such page'), h('p', [h('a', { href: withBase('/') }, 'All pages')])]),
  }),
  enhanceApp: ({ app }) => app.component('Drawing', Drawing),
}
