package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// row is one value a user can set: its path, its default as JSON, and the comment above it.
type row struct{ path, standard, comment string }

// writeValuesTable writes the values as a Markdown table, made from values.yaml and its comments.
func writeValuesTable(c *chart, out io.Writer) error {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(c.source), &document); err != nil {
		return err
	}
	if len(document.Content) == 0 {
		return errors.New("values.yaml is empty")
	}
	rows, err := rowsOf(document.Content[0], "", strings.Split(c.source, "\n"))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "| Value | Default | |")
	fmt.Fprintln(out, "|---|---|---|")
	for _, r := range rows {
		fmt.Fprintf(out, "| `%s` | `%s` | %s |\n", r.path, r.standard, r.comment)
	}
	return nil
}

// rowsOf descends into a mapping whose keys are commented, and takes one whose keys are not for a single value.
func rowsOf(mapping *yaml.Node, prefix string, lines []string) ([]row, error) {
	var rows []row
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		path := prefix + key.Value
		if hasCommentedKey(value, lines) {
			inner, err := rowsOf(value, path+".", lines)
			if err != nil {
				return nil, err
			}
			rows = append(rows, inner...)
			continue
		}
		comment := commentAbove(key.Line, lines)
		if comment == "" {
			return nil, fmt.Errorf("values.yaml:%d: %s has no comment above it", key.Line, path)
		}
		var decoded any
		if err := value.Decode(&decoded); err != nil {
			return nil, err
		}
		standard, err := json.Marshal(decoded)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{path, string(standard), strings.ReplaceAll(comment, "|", `\|`)})
	}
	return rows, nil
}

func hasCommentedKey(node *yaml.Node, lines []string) bool {
	if node.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if commentAbove(key.Line, lines) != "" || hasCommentedKey(value, lines) {
			return true
		}
	}
	return false
}

// commentAbove is the block of comment lines that ends right above a line (counted from 1).
func commentAbove(line int, lines []string) string {
	var words []string
	for i := line - 2; i >= 0; i-- {
		text := strings.TrimSpace(lines[i])
		if !strings.HasPrefix(text, "#") {
			break
		}
		words = append([]string{strings.TrimSpace(strings.TrimLeft(text, "#"))}, words...)
	}
	return strings.Join(words, " ")
}
