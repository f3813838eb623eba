package main

import (
	"fmt"
	"io"
	"regexp"
	"sort"
	"strings"

	"github.com/ghodss/yaml"
)

// installOrder is the order in which Helm applies kinds; what is not named comes last.
var installOrder = []string{
	"PriorityClass", "Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "PodDisruptionBudget", "ServiceAccount",
	"Secret", "ConfigMap", "StorageClass", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition",
	"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Service", "DaemonSet", "Pod", "Deployment", "StatefulSet",
	"Job", "CronJob",
}

var separator = regexp.MustCompile(`(?m)^---[ \t]*$`)

type manifest struct {
	source, text, kind string
}

// writeManifests writes the objects as one YAML stream.
func writeManifests(c *chart, rendered map[string]string, includeCRDs bool, out io.Writer) error {
	var all []manifest
	if includeCRDs {
		crds, err := split(c.crds)
		if err != nil {
			return err
		}
		all = crds
	}
	objects, err := split(rendered)
	if err != nil {
		return err
	}
	rank := map[string]int{}
	for i, kind := range installOrder {
		rank[kind] = i - len(installOrder) // below 0, which unknown kinds have
	}
	sort.SliceStable(objects, func(i, j int) bool { return rank[objects[i].kind] < rank[objects[j].kind] })
	for _, m := range append(all, objects...) {
		if _, err := fmt.Fprintf(out, "---\n# Source: %s\n%s\n", m.source, m.text); err != nil {
			return err
		}
	}
	return nil
}

// split takes rendered files apart into objects, and refuses what is none.
func split(rendered map[string]string) ([]manifest, error) {
	names := make([]string, 0, len(rendered))
	for name := range rendered {
		if !strings.HasSuffix(name, ".txt") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var all []manifest
	for _, name := range names {
		for _, text := range separator.Split(rendered[name], -1) {
			text = strings.TrimSpace(text)
			var object map[string]any
			if err := yaml.Unmarshal([]byte(text), &object); err != nil {
				return nil, fmt.Errorf("YAML parse error on %s: %w\n%s", name, err, numbered(text))
			}
			if len(object) == 0 {
				continue
			}
			kind, _ := object["kind"].(string)
			version, _ := object["apiVersion"].(string)
			if kind == "" || version == "" {
				return nil, fmt.Errorf("%s: an object without kind or apiVersion:\n%s", name, numbered(text))
			}
			all = append(all, manifest{name, text, kind})
		}
	}
	return all, nil
}

func numbered(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = fmt.Sprintf("%4d  %s", i+1, lines[i])
	}
	return strings.Join(lines, "\n")
}
