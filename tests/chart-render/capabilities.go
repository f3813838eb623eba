package main

import (
	"fmt"
	"strings"

	"github.com/Masterminds/semver"
)

// versionSet is .Capabilities.APIVersions.
type versionSet map[string]bool

// Has is for templates: .Capabilities.APIVersions.Has "policy/v1".
func (v versionSet) Has(version string) bool { return v[version] }

type kubeVersion struct{ Version, Major, Minor string }

// String makes {{ .Capabilities.KubeVersion }} print the version.
func (k kubeVersion) String() string { return k.Version }

// GitVersion is the old name of Version.
func (k kubeVersion) GitVersion() string { return k.Version }

// since names the APIs that a chart may ask for and that not every supported cluster has, by the minor version of
// Kubernetes 1 that brought them.
var since = map[string]uint64{
	"v1": 0, "apps/v1": 9, "rbac.authorization.k8s.io/v1": 8, "networking.k8s.io/v1": 7, "scheduling.k8s.io/v1": 14,
	"coordination.k8s.io/v1": 14, "apiextensions.k8s.io/v1": 16, "batch/v1": 0, "policy/v1": 21, "autoscaling/v2": 23,
	"discovery.k8s.io/v1": 21, "flowcontrol.apiserver.k8s.io/v1": 29, "admissionregistration.k8s.io/v1": 16,
}

// until names the APIs that clusters have lost, by the version without them.
var until = map[string]uint64{"policy/v1beta1": 25, "batch/v1beta1": 25, "apiextensions.k8s.io/v1beta1": 22}

func capabilitiesOf(kube string, further []string) (map[string]any, error) {
	v, err := semver.NewVersion(kube)
	if err != nil {
		return nil, fmt.Errorf("--kube-version %s: %w", kube, err)
	}
	versions := versionSet{}
	for api, minor := range since {
		if v.Minor() >= minor {
			versions[api] = true
		}
	}
	for api, minor := range until {
		if v.Minor() < minor {
			versions[api] = true
		}
	}
	for _, list := range further {
		for _, api := range strings.Split(list, ",") {
			versions[strings.TrimSpace(api)] = true
		}
	}
	return map[string]any{
		"APIVersions": versions,
		"KubeVersion": kubeVersion{"v" + v.String(), fmt.Sprint(v.Major()), fmt.Sprint(v.Minor())},
		"HelmVersion": map[string]any{"Version": "v3.14.0"},
	}, nil
}
