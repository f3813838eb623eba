package main

import (
	"path"
	"strings"

	"github.com/ghodss/yaml"
)

// files is .Files: what lies in the chart beside templates, CRDs and values.
type files map[string][]byte

// Get is the content of one file, empty when there is none.
func (f files) Get(name string) string { return string(f[name]) }

// Lines is the content of one file, line by line.
func (f files) Lines(name string) []string {
	return strings.Split(strings.TrimSuffix(f.Get(name), "\n"), "\n")
}

// Glob is the files whose path matches.
func (f files) Glob(pattern string) files {
	matching := files{}
	for name, content := range f {
		if ok, _ := path.Match(pattern, name); ok {
			matching[name] = content
		}
	}
	return matching
}

// AsConfig is the files as the data of a ConfigMap.
func (f files) AsConfig() string {
	data := map[string]string{}
	for name, content := range f {
		data[path.Base(name)] = string(content)
	}
	text, _ := yaml.Marshal(data)
	return strings.TrimSuffix(string(text), "\n")
}
