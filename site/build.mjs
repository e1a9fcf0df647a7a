// Builds the documents of docs/ as a site into dist/docs.
import { build } from 'vitepress'
import { assemble } from './assemble.mjs'
import { site } from './paths.mjs'

assemble()
await build(site)
