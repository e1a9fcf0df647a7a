// Builds the documents of docs/ as a site into dist/docs.
import { build } from 'vitepress'
import { assemble } from './assemble.mjs'
import { site } from './paths.mjs'
import { show } from './source.mjs'

const others = assemble()
await build(site)
await show(others)
