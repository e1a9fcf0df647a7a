import { fileURLToPath } from 'node:url'

const at = (path) => fileURLToPath(new URL(path, import.meta.url))

export const root = at('..')
export const docs = at('../docs')
export const site = at('.')
export const pages = at('.pages') // what VitePress reads; below site/, since it looks for its packages from there
export const out = at('../dist/docs')
