package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/Masterminds/semver"
	"github.com/ghodss/yaml"
)

// chart is a chart's directory, read whole.
type chart struct {
	name      string
	metadata  map[string]any    // Chart.yaml
	values    map[string]any    // values.yaml
	source    string            // values.yaml as written
	schema    []byte            // values.schema.json, nil without one
	templates map[string]string // by Helm's name for it: <chart>/templates/<file>
	crds      map[string]string
	files     files // everything else
}

func loadChart(dir string) (*chart, error) {
	c := &chart{templates: map[string]string{}, crds: map[string]string{}, files: files{}}
	raw, err := os.ReadFile(filepath.Join(dir, "Chart.yaml"))
	if err != nil {
		return nil, fmt.Errorf("%s is no chart: %w", dir, err)
	}
	if err := yaml.Unmarshal(raw, &c.metadata); err != nil {
		return nil, fmt.Errorf("Chart.yaml: %w", err)
	}
	for _, key := range []string{"apiVersion", "name", "version"} {
		if text, ok := c.metadata[key].(string); !ok || text == "" {
			return nil, fmt.Errorf("Chart.yaml: %s is missing", key)
		}
	}
	c.name = c.metadata["name"].(string)
	if _, err := semver.NewVersion(c.metadata["version"].(string)); err != nil {
		return nil, fmt.Errorf("Chart.yaml: version: %w", err)
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return c.add(filepath.ToSlash(relative), content)
	})
	return c, err
}

func (c *chart) add(path string, content []byte) error {
	switch {
	case path == "Chart.yaml":
	case path == "values.yaml":
		c.source = string(content)
		if err := yaml.Unmarshal(content, &c.values); err != nil {
			return fmt.Errorf("values.yaml: %w", err)
		}
	case path == "values.schema.json":
		c.schema = content
	case strings.HasPrefix(path, "templates/"):
		c.templates[c.name+"/"+path] = string(content)
	case strings.HasPrefix(path, "crds/"):
		if strings.HasSuffix(path, ".yaml") {
			c.crds[c.name+"/"+path] = string(content)
		}
	default:
		c.files[path] = content
	}
	return nil
}

// templateChart is what templates see as .Chart: the fields of Chart.yaml by their names in Go.
func (c *chart) templateChart() map[string]any {
	seen := map[string]any{}
	for key, value := range c.metadata {
		name := strings.ToUpper(key[:1]) + key[1:]
		if key == "apiVersion" {
			name = "APIVersion"
		}
		seen[name] = value
	}
	return seen
}

func (c *chart) checkKubeVersion(version string) error {
	wanted, ok := c.metadata["kubeVersion"].(string)
	if !ok {
		return nil
	}
	constraint, err := semver.NewConstraint(wanted)
	if err != nil {
		return fmt.Errorf("Chart.yaml: kubeVersion: %w", err)
	}
	v, err := semver.NewVersion(version)
	if err != nil {
		return fmt.Errorf("--kube-version %s: %w", version, err)
	}
	if !constraint.Check(v) {
		return fmt.Errorf("chart requires kubeVersion: %s which is incompatible with Kubernetes v%s", wanted, v)
	}
	return nil
}
