// Where the site's Markdown is another one than VitePress's.

export function config(md) {
  const { fence, text } = md.renderer.rules
  md.renderer.rules.fence = (tokens, i, ...rest) => tokens[i].info.trim() === 'mermaid'
    ? `<Drawing source="${encodeURIComponent(tokens[i].content)}" />`
    : fence(tokens, i, ...rest)
  // An indented block looks like a fenced one.
  md.renderer.rules.code_block = (tokens, i, ...rest) => {
    tokens[i].info = ''
    return fence(tokens, i, ...rest)
  }
  // Braces in a text are braces, not an expression of Vue.
  md.renderer.rules.text = (...args) => text(...args).replaceAll('{{', '&#123;&#123;')
  md.core.ruler.push('site', ({ tokens }) => {
    tokens.flatMap((token) => token.children ?? []).filter(isSource).forEach((token) => token.attrSet('target', '_self'))
    withoutEmptyHeads(tokens)
  })
}

// isSource tells the links to pages of source.mjs, which are not of the application that VitePress makes.
const isSource = (token) => token.type === 'link_open' && /^\/source\/.*\.html$/.test(token.attrGet('href'))

// withoutEmptyHeads removes the heads of tables that have nothing in them, and makes an empty cell of another head no head.
function withoutEmptyHeads(tokens) {
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i].type !== 'thead_open') continue
    const end = tokens.findIndex((token, n) => n > i && token.type === 'thead_close')
    const cells = []
    for (let n = i; n < end; n++) if (tokens[n].type === 'th_open') cells.push(n)
    const empty = cells.filter((n) => tokens[n + 1].content.trim() === '')
    for (const n of empty) tokens[n].tag = tokens[n + 2].tag = 'td'
    if (empty.length === cells.length) tokens.splice(i, end - i + 1)
  }
}
