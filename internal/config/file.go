package config

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlParser reads a configuration file for koanf: one mapping of keys to scalars or
// lists of scalars. Unlike koanf's own parser it keeps scalars as they are written,
// so that the token 0123 stays four characters, and its errors show no values.
type yamlParser struct{}

// wrongShape stands for a mapping, or a list of anything but scalars.
const wrongShape = false

// Unmarshal returns a string, a []string, nil for null, or wrongShape for each key.
func (yamlParser) Unmarshal(content []byte) (map[string]any, error) {
	var root yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return nil, nil // empty
	} else if err != nil && strings.Contains(err.Error(), "unknown anchor") { // would show the value
		return nil, errors.New("yaml: a value that begins with * has to be quoted")
	} else if err != nil {
		return nil, err
	}
	if top := root.Content[0]; top.Kind != yaml.MappingNode && top.ShortTag() != "!!null" {
		return nil, errors.New("it is not a mapping of keys to values")
	}
	var keys map[string]yamlValue
	if err := root.Decode(&keys); err != nil {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the first document")
	}
	layer := map[string]any{}
	for key, v := range keys {
		layer[key] = v.value
	}
	return layer, nil
}

// keyLines returns the lines on which the keys of a valid configuration file are.
func keyLines(path string) map[string]int {
	lines := map[string]int{}
	content, err := os.ReadFile(path)
	var root yaml.Node
	if err == nil && yaml.Unmarshal(content, &root) == nil && len(root.Content) == 1 {
		top := root.Content[0].Content // keys and values in turn
		for i := 0; i+1 < len(top); i += 2 {
			lines[top[i].Value] = top[i].Line
		}
	}
	return lines
}

// Marshal completes koanf.Parser. It is not used.
func (yamlParser) Marshal(map[string]any) ([]byte, error) {
	return nil, errors.New("not supported")
}

// yamlValue is the value of one key.
type yamlValue struct{ value any }

// UnmarshalYAML is called with aliases resolved, and not for null.
func (v *yamlValue) UnmarshalYAML(n *yaml.Node) error {
	switch n.Kind {
	case yaml.ScalarNode:
		v.value = n.Value
	case yaml.SequenceNode:
		list := []string{}
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				v.value = wrongShape
				return nil
			}
			list = append(list, item.Value)
		}
		v.value = list
	default:
		v.value = wrongShape
	}
	return nil
}
