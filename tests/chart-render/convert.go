package main

import (
	"encoding/json"
	"strings"

	"github.com/ghodss/yaml"
)

// Helm's conversions return what went wrong as text or under "Error", never as an error.

func toYaml(value any) string {
	text, err := yaml.Marshal(value)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

func toJson(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(text)
}

func fromYaml(text string) map[string]any {
	parsed := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &parsed); err != nil {
		parsed["Error"] = err.Error()
	}
	return parsed
}

func fromYamlArray(text string) []any {
	parsed := []any{}
	if err := yaml.Unmarshal([]byte(text), &parsed); err != nil {
		return []any{err.Error()}
	}
	return parsed
}
