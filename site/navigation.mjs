// The groups of the sidebar: the pages that navigation.json names, then those of its folder.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { docs } from './paths.mjs'

export const groups = JSON.parse(readFileSync(new URL('navigation.json', import.meta.url), 'utf8'))

export function sidebar() {
  return groups.map(({ text, pages, folder }) => {
    const items = pages.map(({ text, page }) => ({ text, link: '/' + page }))
    if (folder) items.push(...inFolder(folder, new Set(pages.map((p) => p.page))))
    return { text, items }
  }).filter((group) => group.items.length > 0)
}

// inFolder returns the pages of a folder, its index first, under their headings.
function inFolder(folder, named) {
  if (!existsSync(join(docs, folder))) return []
  const rank = (name) => name === 'index.md' ? '' : name
  return readdirSync(join(docs, folder))
    .filter((name) => name.endsWith('.md') && !named.has(`${folder}/${name}`))
    .sort((a, b) => rank(a) < rank(b) ? -1 : 1)
    .map((name) => ({ text: heading(join(docs, folder, name)), link: `/${folder}/${name}` }))
}

function heading(file) {
  const found = readFileSync(file, 'utf8').match(/^# (.+)$/m)
  if (!found) throw new Error(`${file} has no heading`)
  return found[1].replaceAll('`', '')
}
