// Makes from docs/ what VitePress reads: the same pages, and those Markdown files outside docs/ to which they lead.
// Of other files and of folders it tells which are needed.
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, posix, relative } from 'node:path'
import { docs, pages, root, site } from './paths.mjs'

// assemble returns the files and folders of the repository that need a page besides.
export function assemble() {
  rmSync(pages, { recursive: true, force: true })
  cpSync(join(site, 'public'), join(pages, 'public'), { recursive: true })
  cpSync(join(site, 'node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js'), join(pages, 'public/mermaid.js'))
  const others = []
  const waiting = files(docs).filter((file) => /\.(md|svg|png)$/.test(file)).map((file) => posix.join('docs', file))
  const seen = new Set(waiting)
  const lead = (path) => {
    if (!seen.has(path)) waiting.push(path)
    seen.add(path)
  }
  for (const path of waiting) { // it grows meanwhile
    if (path.endsWith('.md')) save(place(path), markdown(path, lead))
    else if (isPicture(path) && path.startsWith('docs/')) save(path.slice(5), readFileSync(join(root, path)))
    else others.push(path)
    if (isFolder(path)) children(path).forEach(lead)
  }
  return others
}

const isPicture = (path) => /\.(svg|png)$/.test(path)
export const isFolder = (path) => statSync(join(root, path)).isDirectory()

// place returns where a file of the repository is in what VitePress reads, or, if it is no Markdown, in the site: those of
// docs/ as they are, the others below source/.
export function place(path) {
  if (path.endsWith('.md')) return path.startsWith('docs/') ? path.slice(5) : posix.join('source', path)
  return posix.join('source', isFolder(path) ? `${path}/index.html` : `${path}.html`)
}

// children returns what a folder has, but what is built, installed or data of tests.
export function children(path) {
  return readdirSync(join(root, path), { withFileTypes: true })
    .filter((e) => !['node_modules', 'testdata', 'package-lock.json'].includes(e.name) && (e.isDirectory() || !/\.(pyc|test)$/.test(e.name)))
    .map((e) => posix.join(path, e.name)).sort()
}

function save(path, content) {
  const to = join(pages, path)
  mkdirSync(dirname(to), { recursive: true })
  writeFileSync(to, content)
}

// hidden is the front matter of pages that neither the search nor the next page leads to.
const hidden = (title) => `---\ntitle: ${JSON.stringify(title)}\nsearch: false\nprev: false\nnext: false\n---\n\n`

// markdown returns a page whose links outside docs/ lead to where these files are in the site.
function markdown(path, lead) {
  const text = readFileSync(join(root, path), 'utf8')
  const front = path.startsWith('docs/') ? '' : hidden(path)
  return front + outsideCode(text, (part) => part
    .replace(/(!?\[(?:[^\]\\]|\\.)*\]\()([^()\s]+)(\))/g, (all, before, target, after) => before + moved(path, target, before[0] === '!', lead) + after)
    .replace(/^(\s*\[.+?\]:\s+)(\S+)/gm, (all, before, target) => before + moved(path, target, false, lead)))
}

// outsideCode replaces in what is neither a fenced block nor a code span. A link's text may have such spans.
function outsideCode(text, replace) {
  const spans = []
  const mark = (code) => `\u0000${spans.push(code) - 1}\u0000`
  const without = text.replace(/^(```+).*?^\1$/gms, mark).replace(/`[^`\n]*`/g, mark)
  return replace(without).replace(/\u0000(\d+)\u0000/g, (all, i) => spans[i]).replace(/\u0000(\d+)\u0000/g, (all, i) => spans[i])
}

function moved(path, target, embedded, lead) {
  if (/^([a-z]+:|#|\/)/.test(target)) return target
  const [name, anchor] = target.split('#')
  const file = posix.join(posix.dirname(path), name).replace(/\/$/, '')
  if (!existsSync(join(root, file))) return target // VitePress names it
  if (embedded) return picturePlace(path, file)
  lead(file)
  const to = file.endsWith('.md') ? link(place(path), place(file)) : '/' + place(file)
  return to + (anchor === undefined ? '' : '#' + anchor)
}

// picturePlace returns where a page finds a picture. One outside docs/ is copied.
function picturePlace(path, file) {
  const to = file.startsWith('docs/') ? file.slice(5) : posix.join('source', file)
  if (!file.startsWith('docs/')) save(to, readFileSync(join(root, file)))
  return link(place(path), to)
}

export function link(from, to) {
  const path = relative(dirname(from), to)
  return path.startsWith('.') ? path : './' + path
}

function files(folder, below = '') {
  return readdirSync(join(folder, below), { withFileTypes: true }).flatMap((e) => {
    const name = posix.join(below, e.name)
    return e.isDirectory() ? files(folder, name) : [name]
  })
}
