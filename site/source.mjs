// Pages of files and folders of the repository to which the documents lead: plain HTML, with the text highlighted.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, extname, join } from 'node:path'
import { bundledLanguages, createHighlighter } from 'shiki'
import { children, isFolder, link, place } from './assemble.mjs'
import { out, root } from './paths.mjs'
import { themes } from './themes.mjs'

// Where a file's language is not its extension.
const languages = {
  mjs: 'js', cfg: 'nginx', conf: 'nginx', service: 'ini', socket: 'ini', tpl: 'yaml', npmrc: 'ini', yml: 'yaml', mod: 'txt', sum: 'txt',
  Dockerfile: 'docker', 'apache.conf': 'apache', Caddyfile: 'nginx', routes: 'txt', LICENSE: 'txt',
}

export async function show(paths) {
  const language = new Map(paths.map((path) => [path, languageOf(path)]))
  const highlighter = await createHighlighter({ themes: Object.values(themes), langs: [...new Set(language.values())] })
  for (const path of paths) {
    const body = isFolder(path) ? list(path) : text(path, highlighter, language.get(path))
    const to = join(out, place(path))
    mkdirSync(dirname(to), { recursive: true })
    writeFileSync(to, page(path, body))
  }
}

function languageOf(path) {
  const extension = extname(path).slice(1) || basename(path).replace('.', '')
  const language = languages[basename(path)] ?? languages[extension] ?? extension
  return language in bundledLanguages ? language : 'txt'
}

const escaped = (s) => s.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;')

function list(path) {
  const items = children(path).map((child) => {
    const to = link(place(path), place(child)).replace(/\.md$/, '.html')
    return `<li><a href="${escaped(to)}">${escaped(basename(child))}${isFolder(child) ? '/' : ''}</a></li>`
  })
  return `<ul>\n${items.join('\n')}\n</ul>`
}

function text(path, highlighter, lang) {
  return highlighter.codeToHtml(readFileSync(join(root, path), 'utf8').trimEnd(), { lang, themes, defaultColor: false })
}

function page(path, body) {
  const home = link(place(path), 'index.html')
  return `<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(path)} | SSE Gateway</title>
<link rel="icon" href="${link(place(path), 'icon.svg')}">
<link rel="stylesheet" href="${link(place(path), 'source.css')}">
<script>
const chosen = localStorage.getItem("vitepress-theme-appearance") || "auto"
if (chosen === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : chosen === "dark") document.documentElement.classList.add("dark")
</script>
</head>
<body>
<header><a href="${home}">SSE Gateway</a></header>
<main>
<h1>${escaped(path)}</h1>
${body}
</main>
</body>
</html>
`
}
