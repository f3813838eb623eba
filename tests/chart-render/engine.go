package main

import (
	"errors"
	"fmt"
	"path"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
)

type release struct {
	name, namespace string
	upgrade         bool
}

// An include that includes itself must not run for ever.
const deepestInclude = 100

// engine is one rendering: all templates of a chart in one set, so that each sees the named ones of the others.
type engine struct {
	set    *template.Template
	strict bool
	depth  map[string]int
}

// render returns the text of every template that is not a partial, by name.
func render(c *chart, values map[string]any, r release, capabilities map[string]any, strict bool) (map[string]string, error) {
	e := &engine{set: template.New("gotpl"), strict: strict, depth: map[string]int{}}
	e.set.Option(e.missingKey()).Funcs(e.functions())
	names := make([]string, 0, len(c.templates))
	for name := range c.templates {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if _, err := e.set.New(name).Parse(c.templates[name]); err != nil {
			return nil, err
		}
	}
	rendered := map[string]string{}
	for _, name := range names {
		if strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		scope := map[string]any{
			"Chart":        c.templateChart(),
			"Values":       values,
			"Files":        c.files,
			"Capabilities": capabilities,
			"Subcharts":    map[string]any{},
			"Template":     map[string]any{"Name": name, "BasePath": c.name + "/templates"},
			"Release": map[string]any{
				"Name": r.name, "Namespace": r.namespace, "Service": "Helm",
				"IsInstall": !r.upgrade, "IsUpgrade": r.upgrade, "Revision": 1,
			},
		}
		text, err := e.execute(e.set, name, scope)
		if err != nil {
			return nil, err
		}
		rendered[name] = text
	}
	return rendered, nil
}

func (e *engine) missingKey() string {
	if e.strict {
		return "missingkey=error"
	}
	return "missingkey=zero"
}

func (e *engine) execute(set *template.Template, name string, scope any) (string, error) {
	var text strings.Builder
	if err := set.ExecuteTemplate(&text, name, scope); err != nil {
		return "", err
	}
	// What a missing key prints as, whatever the option; Helm takes it out.
	return strings.ReplaceAll(text.String(), "<no value>", ""), nil
}

// functions is sprig without what reads the machine, and Helm's own.
func (e *engine) functions() template.FuncMap {
	all := sprig.TxtFuncMap()
	delete(all, "env")
	delete(all, "expandenv")
	all["toYaml"] = toYaml
	all["fromYaml"] = fromYaml
	all["fromYamlArray"] = fromYamlArray
	all["toJson"] = toJson
	all["fromJson"] = fromYaml
	all["fromJsonArray"] = fromYamlArray
	all["include"] = e.include
	all["tpl"] = e.tpl
	all["required"] = required
	all["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	// There is no cluster to ask, as for helm template.
	all["lookup"] = func(string, string, string, string) map[string]any { return map[string]any{} }
	return all
}

func (e *engine) include(name string, scope any) (string, error) {
	if e.depth[name] >= deepestInclude {
		return "", fmt.Errorf("the template %s includes itself without end", name)
	}
	e.depth[name]++
	defer func() { e.depth[name]-- }()
	return e.execute(e.set, name, scope)
}

func (e *engine) tpl(text string, scope any) (string, error) {
	set, err := e.set.Clone()
	if err != nil {
		return "", err
	}
	// A clone forgets the option.
	if _, err := set.New("tpl").Option(e.missingKey()).Parse(text); err != nil {
		return "", fmt.Errorf("cannot parse template %q: %w", text, err)
	}
	return e.execute(set, "tpl", scope)
}

func required(message string, value any) (any, error) {
	if value == nil || value == "" {
		return value, errors.New(message)
	}
	return value, nil
}
