// Makes from docs/ what VitePress reads: the same pages, and a page or a copy of each file outside docs/ to which they lead.
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, extname, join, posix, relative } from 'node:path'
import { docs, pages, root, site } from './paths.mjs'

// Where VitePress has no highlighting by the name as it is.
const languages = {
  '.mjs': 'js', '.cfg': 'txt', '.conf': 'nginx', '.mod': 'txt', '.service': 'ini', '.hurl': 'txt', '.env': 'ini',
  Dockerfile: 'docker', Makefile: 'make', 'apache.conf': 'apache', 'zurl.conf': 'ini', 'pushpin.conf': 'ini',
}
const known = new Set(['.js', '.ts', '.go', '.py', '.php', '.java', '.json', '.yaml', '.yml', '.html', '.css', '.sh', '.lua', '.svg', '.ini'])

export function assemble() {
  rmSync(pages, { recursive: true, force: true })
  cpSync(join(site, 'public'), join(pages, 'public'), { recursive: true })
  cpSync(join(site, 'node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js'), join(pages, 'public/mermaid.js'))
  const waiting = files(docs).filter((file) => !file.endsWith('.go')).map((file) => posix.join('docs', file))
  const seen = new Set(waiting)
  const lead = (path) => {
    if (!seen.has(path)) waiting.push(path)
    seen.add(path)
  }
  for (const path of waiting) write(path, lead) // it grows meanwhile
}

// place returns where a file of the repository is in the site: those of docs/ as they are, the others below source/.
// The generator leaves names with a leading dot out.
function place(path) {
  const inDocs = path.startsWith('docs/')
  const name = (inDocs ? path.slice(5) : posix.join('source', path)).replaceAll('/.', '/')
  if (path.endsWith('.md')) return name
  return posix.join(inDocs ? 'source/docs' : '', statSync(join(root, path)).isDirectory() ? `${name}/index.md` : `${name}.md`)
}

function write(path, lead) {
  const from = join(root, path)
  if (statSync(from).isDirectory()) return save(place(path), folder(path, lead))
  if (path.endsWith('.md')) return save(place(path), markdown(path, lead))
  if (path.startsWith('docs/') && isPicture(path)) {
    save(path.slice(5), readFileSync(from))
    return
  }
  save(posix.join('public/_files', path), readFileSync(from))
  save(place(path), isPicture(path) ? picture(path) : source(path))
}

function save(path, content) {
  const to = join(pages, path)
  mkdirSync(dirname(to), { recursive: true })
  writeFileSync(to, content)
}

const isPicture = (path) => /\.(svg|png)$/.test(path)

// hidden is the front matter of pages that neither the search nor the next page leads to.
const hidden = (title) => `---\ntitle: ${JSON.stringify(title)}\nsearch: false\nprev: false\nnext: false\neditLink: false\n---\n\n`

const heading = (path) => `${hidden(path)}# ${path.replace(/[_*]/g, '\\$&')} {#top}\n\n`

function source(path) {
  const text = readFileSync(join(root, path), 'utf8')
  const fence = '`'.repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map((m) => m[0].length + 1)))
  const extension = extname(path)
  const language = languages[basename(path)] ?? languages[extension] ?? (known.has(extension) ? extension.slice(1) : 'txt')
  return `${heading(path)}<a href="${raw(path)}" target="_self">The file itself</a>\n\n${fence}${language}\n${text.replace(/\n?$/, '\n')}${fence}\n`
}

const picture = (path) => `${heading(path)}![${basename(path)}](${raw(path)})\n`

const raw = (path) => '/_files/' + path // go leaves folders with such a name alone

function folder(path, lead) {
  const entries = readdirSync(join(root, path), { withFileTypes: true }).filter(kept).sort((a, b) => a.name < b.name ? -1 : 1)
  const lines = entries.map((e) => {
    const child = posix.join(path, e.name)
    lead(child)
    return `- [\`${e.name}${e.isDirectory() ? '/' : ''}\`](${link(place(path), place(child))})`
  })
  return `${heading(path)}${lines.join('\n')}\n`
}

// kept leaves out what is built and installed.
const kept = (entry) => !['node_modules', 'testdata', 'vendor'].includes(entry.name) && !/\.(lock|pyc|test)$/.test(entry.name) && entry.name !== 'package-lock.json'

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
  return link(place(path), place(file)) + (anchor === undefined ? '' : '#' + anchor)
}

// picturePlace returns where a page finds a picture. One outside docs/ is copied.
function picturePlace(path, file) {
  const to = file.startsWith('docs/') ? file.slice(5) : posix.join('source', file)
  if (!file.startsWith('docs/')) save(to, readFileSync(join(root, file)))
  return link(place(path), to)
}

function link(from, to) {
  const path = relative(dirname(from), to)
  return path.startsWith('.') ? path : './' + path
}

function files(folder, below = '') {
  return readdirSync(join(folder, below), { withFileTypes: true }).flatMap((e) => {
    const name = posix.join(below, e.name)
    return e.isDirectory() ? files(folder, name) : [name]
  })
}
