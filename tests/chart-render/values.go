package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/ghodss/yaml"
)

// valuesOf lays files and then single values over those of the chart.
func valuesOf(c *chart, o options) (map[string]any, error) {
	values := c.values
	for _, name := range o.files {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var over map[string]any
		if err := yaml.Unmarshal(raw, &over); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		values = merge(values, over)
	}
	for _, set := range o.sets {
		over, err := parseSet(set, typed)
		if err != nil {
			return nil, err
		}
		values = merge(values, over)
	}
	for _, set := range o.setStrings {
		over, err := parseSet(set, func(s string) any { return s })
		if err != nil {
			return nil, err
		}
		values = merge(values, over)
	}
	return values, nil
}

// merge lays over upon base: maps are merged, a null removes the key, everything else is replaced.
func merge(base, over map[string]any) map[string]any {
	merged := map[string]any{}
	for key, value := range base {
		merged[key] = value
	}
	for key, value := range over {
		if value == nil {
			delete(merged, key)
			continue
		}
		newMap, isMap := value.(map[string]any)
		oldMap, wasMap := merged[key].(map[string]any)
		if isMap && wasMap {
			merged[key] = merge(oldMap, newMap)
		} else {
			merged[key] = value
		}
	}
	return merged
}

// parseSet reads a.b=c. List elements (a[0].b=c) make a list with only that element.
func parseSet(set string, value func(string) any) (map[string]any, error) {
	key, text, found := cutUnescaped(set, '=')
	if !found || key == "" {
		return nil, fmt.Errorf("--set %s: expected key=value", set)
	}
	var result any
	if strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") {
		list := []any{}
		if inner := text[1 : len(text)-1]; inner != "" {
			for _, item := range strings.Split(inner, ",") {
				list = append(list, value(item))
			}
		}
		result = list
	} else {
		result = value(text)
	}
	var parts []string
	for rest := key; ; {
		part, after, more := cutUnescaped(rest, '.')
		parts = append(parts, strings.ReplaceAll(part, `\`, ""))
		if !more {
			break
		}
		rest = after
	}
	for i := len(parts) - 1; i >= 0; i-- {
		name := parts[i]
		if strings.HasSuffix(name, "[0]") {
			name, result = strings.TrimSuffix(name, "[0]"), []any{result}
		} else if strings.Contains(name, "[") {
			return nil, fmt.Errorf("--set %s: only [0] is understood; use --values for longer lists", set)
		}
		result = map[string]any{name: result}
	}
	return result.(map[string]any), nil
}

func cutUnescaped(s string, separator byte) (before, after string, found bool) {
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		} else if s[i] == separator {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// typed is Helm's reading of a value on the command line. Numbers are int64 there, and float64 from a file.
func typed(s string) any {
	switch s {
	case "true":
		return true
	case "false":
		return false
	case "null":
		return nil
	case "0":
		return int64(0)
	}
	// A leading zero makes it a string: 007 is a name.
	if !strings.HasPrefix(s, "0") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
	}
	return s
}
