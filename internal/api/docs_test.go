package api

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/api.md anew")

const apiPagePath = "../../docs/api.md"

// docs/api.md is the OpenAPI document for readers. It is written by
//
//	go test ./internal/api -run TestAPIPage -update
func TestAPIPage(t *testing.T) {
	var root yaml.Node
	if err := yaml.Unmarshal(openAPI, &root); err != nil {
		t.Fatal(err)
	}
	p := &apiPage{root: node{root.Content[0]}}
	p.write()
	if *update {
		if err := os.WriteFile(apiPagePath, []byte(p.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(apiPagePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != p.String() {
		t.Error("docs/api.md is not what openapi.yaml says now: go test ./internal/api -run TestAPIPage -update")
	}
}

// node is a value of the document, which keeps the order of what is in it. That of
// something absent is the zero node, in which there is nothing.
type node struct{ *yaml.Node }

func (n node) at(path ...string) node {
	for _, name := range path {
		next := node{}
		n.each(func(key string, value node) {
			if key == name {
				next = value
			}
		})
		n = next
	}
	return n
}

func (n node) each(do func(key string, value node)) {
	if n.Node == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i < len(n.Content); i += 2 {
		value := n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		do(n.Content[i].Value, node{value})
	}
}

func (n node) list() (values []string) {
	if n.Node != nil {
		for _, item := range n.Content {
			values = append(values, item.Value)
		}
	}
	return values
}

func (n node) text() string {
	if n.Node == nil {
		return ""
	}
	return strings.TrimSpace(n.Value)
}

func (n node) json() string {
	var v any
	if err := n.Decode(&v); err != nil {
		panic(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// apiPage is what is written of the document.
type apiPage struct {
	strings.Builder
	root node
}

func (p *apiPage) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// follow returns what a reference stands for, and the name of that.
func (p *apiPage) follow(n node) (node, string) {
	ref := n.at("$ref").text()
	if ref == "" {
		return n, ""
	}
	path := strings.Split(strings.TrimPrefix(ref, "#/"), "/")
	return p.root.at(path...), path[len(path)-1]
}

// generators are what e2e/generated runs, by their usual names.
const generators = `    curl -O http://127.0.0.1:3000/internal/openapi.yaml
    oapi-codegen -generate types,client -package gateway -o gateway/gateway.go openapi.yaml
    npx openapi-typescript openapi.yaml -o gateway.ts
    npx -p typescript@5 -p @hey-api/openapi-ts openapi-ts -i openapi.yaml -o gateway

The last does not run with TypeScript 7, which npx would take. What a program does with each: [Go](../e2e/generated/client/main.go), [openapi-fetch](../e2e/generated/npm/openapi-fetch.ts) with the types of openapi-typescript, [hey-api](../e2e/generated/npm/hey-api.ts). In a client with types,
look first which of its two forms an answer to ` + "`GET /internal/stats`" + ` has.
`

func (p *apiPage) write() {
	p.line("# The internal API\n\n<!-- Written from internal/api/openapi.yaml; a test says how. -->\n")
	p.line("A running gateway serves this as an OpenAPI %s document at `/internal/openapi.yaml`. Generators make typed clients of it as it is:\n", p.root.at("openapi").text())
	p.line("%s", generators)
	p.line("%s\n", p.root.at("info", "description").text())
	scheme := p.root.at("components", "securitySchemes", "token")
	p.line("Authorization: `%s`. %s\n", scheme.at("scheme").text(), cell(scheme.at("description").text()))
	p.line("## The requests\n")
	p.root.at("paths").each(func(path string, item node) {
		item.each(func(method string, o node) {
			if method != "parameters" {
				p.operation(strings.ToUpper(method)+" "+path, o, item.at("parameters"))
			}
		})
	})
	p.line("## The callbacks\n")
	p.root.at("webhooks").each(func(name string, item node) {
		item.each(func(_ string, o node) { p.operation("POST CALLBACK_URL: "+name, o, node{}) })
	})
	p.line("## Schemas\n")
	p.root.at("components", "schemas").each(func(name string, s node) {
		p.line("### %s\n", name)
		if s.at("properties").Node == nil {
			p.line("%s. %s\n", p.kind(s), cell(s.at("description").text()))
			return
		}
		if d := s.at("description").text(); d != "" {
			p.line("%s\n", d)
		}
		p.fields(s)
	})
}

func (p *apiPage) operation(title string, o, shared node) {
	p.line("### %s\n\n%s\n", title, o.at("summary").text())
	if d := o.at("description").text(); d != "" {
		p.line("%s\n", d)
	}
	p.parameters(shared, o.at("parameters"))
	body := o.at("requestBody")
	body.at("content").each(func(media string, content node) {
		schema := content.at("schema")
		if schema.at("$ref").Node == nil && schema.at("properties").Node != nil {
			p.line("Body, `%s`:\n", media)
			p.fields(schema)
		} else {
			p.line("Body, `%s`: %s\n", media, strings.TrimSpace(p.kind(schema)+" "+cell(schema.at("description").text())))
		}
		if example := content.at("example"); example.Node != nil {
			p.line("```json\n%s\n```\n", example.json())
		}
		content.at("examples").each(func(_ string, example node) {
			if v := example.at("value"); v.Kind == yaml.ScalarNode {
				p.line("```text\n%s\n```\n", v.text())
			} else {
				p.line("```json\n%s\n```\n", v.json())
			}
		})
	})
	p.line("| answer | meaning | body |\n| --- | --- | --- |")
	o.at("responses").each(func(status string, r node) {
		r, _ = p.follow(r)
		var bodies []string
		r.at("content").each(func(media string, content node) {
			schema := content.at("schema")
			if codes := schema.at("properties", "error", "properties", "code", "enum").list(); codes != nil {
				bodies = append(bodies, "`"+strings.Join(codes, "`, `")+"`")
			} else {
				body := p.kind(schema)
				schema.at("properties").each(func(name string, field node) {
					body += strings.TrimRight(fmt.Sprintf("; %#q: %s. %s", name, p.kind(field), cell(field.at("description").text())), ". ")
				})
				bodies = append(bodies, strings.TrimPrefix(fmt.Sprintf("%#q: %s", media, body), "`application/json`: "))
			}
		})
		p.line("| %s | %s | %s |", status, cell(r.at("description").text()), strings.Join(bodies, "; "))
	})
	p.line("")
}

func (p *apiPage) parameters(lists ...node) {
	var rows []string
	for _, list := range lists {
		if list.Node == nil {
			continue
		}
		for _, item := range list.Content {
			n, _ := p.follow(node{item})
			rows = append(rows, fmt.Sprintf("| %#q | %s | %s | %s |", n.at("name").text(), n.at("in").text(), p.kind(n.at("schema")), cell(n.at("description").text())))
		}
	}
	if rows != nil {
		p.line("| parameter | in | type | meaning |\n| --- | --- | --- | --- |\n%s\n", strings.Join(rows, "\n"))
	}
}

func (p *apiPage) fields(s node) {
	required := s.at("required").list()
	p.line("| field | type | meaning |\n| --- | --- | --- |")
	s.at("properties").each(func(name string, field node) {
		is := ""
		if slices.Contains(required, name) {
			is = ", required"
		}
		p.line("| `%s` | %s%s | %s |", name, p.kind(field), is, cell(field.at("description").text()))
		inner := field
		if items := field.at("items"); items.Node != nil {
			inner = items
		}
		inner.at("properties").each(func(part string, field node) {
			p.line("| `%s.%s` | %s | %s |", name, part, p.kind(field), cell(field.at("description").text()))
		})
	})
	p.line("")
}

// kind says in a few words what a value must be.
func (p *apiPage) kind(s node) string {
	if _, name := p.follow(s); name != "" {
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	}
	if values := s.at("enum").list(); values != nil {
		return "`" + strings.Join(values, "`, `") + "`"
	}
	if value := s.at("const").text(); value != "" {
		return "`" + value + "`"
	}
	var choices []string
	for _, name := range []string{"anyOf", "oneOf"} {
		if of := s.at(name); of.Node != nil {
			for _, choice := range of.Content {
				choices = append(choices, p.kind(node{choice}))
			}
		}
	}
	if choices != nil {
		return strings.Join(choices, " or ")
	}
	if s.Node != nil && s.Value == "false" {
		return "not allowed"
	}
	kind := s.at("type").text()
	if kind == "" { // anything: the description says what it should be
		kind = cell(s.at("description").text())
	}
	if items := s.at("items"); items.Node != nil {
		kind = "array of " + p.kind(items)
	}
	low, high := s.at("minimum").text(), s.at("maximum").text()
	switch {
	case high != "":
		kind += fmt.Sprintf(" from %s to %s", low, high)
	case low != "":
		kind += fmt.Sprintf(" from %s", low)
	}
	if format := s.at("format").text(); format != "" {
		kind += " (" + format + ")"
	}
	if value := s.at("default").text(); value != "" {
		kind += ", `" + value + "` by default"
	}
	return kind
}

// cell fits a text into a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}
