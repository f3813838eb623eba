using System.Text.Json.Nodes;
using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>Who may do what: exactly what is listed here, in chart and kustomization alike.</summary>
public sealed class RbacTests
{
    private static readonly string[] Kinds = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount"];

    /// <summary>With all roles that the chart can make.</summary>
    private static readonly Lazy<Rendering> Rendered = new(() =>
        ChartRenderer.Render(ChartRenderer.Values(("metrics.enabled", true))).Succeeded()
    );

    [Fact]
    public void The_agent_reads_tasks_and_pods_and_writes_the_status_of_tasks() =>
        AssertRules(
            "ClusterRole/bgsnap-agent",
            "bgsnap.io/snapshottasks: get list watch",
            "bgsnap.io/snapshottasks/status: patch update",
            "/pods: get"
        );

    [Fact]
    public void The_operator_may_do_what_its_steps_need() =>
        AssertRules(
            "ClusterRole/bgsnap-operator",
            "bgsnap.io/vmbackgroundsnapshots: get list patch update watch",
            "bgsnap.io/vmbackgroundsnapshots: create delete",
            "bgsnap.io/vmbackgroundsnapshotschedules: get list watch",
            "bgsnap.io/vmbackgroundsnapshotschedules/status: patch update",
            "snapshot.storage.k8s.io/volumesnapshots: create delete get list",
            "snapshot.storage.k8s.io/volumesnapshotclasses: get list",
            "bgsnap.io/vmbackgroundsnapshots/status: patch update",
            "bgsnap.io/vmbackgroundrestores: get list patch update watch",
            "bgsnap.io/vmbackgroundrestores/status: patch update",
            "bgsnap.io/vmbackgroundrestores/finalizers: update",
            "bgsnap.io/vmbackgroundsnapshots/finalizers: update",
            "bgsnap.io/snapshottasks: create delete get list patch update watch",
            "/pods: create delete get list watch",
            "/persistentvolumeclaims: create delete get list watch",
            "kubevirt.io/virtualmachines: create delete get patch",
            "kubevirt.io/virtualmachineinstances: get list",
            "instancetype.kubevirt.io/virtualmachineinstancetypes: get",
            "instancetype.kubevirt.io/virtualmachineclusterinstancetypes: get",
            "instancetype.kubevirt.io/virtualmachinepreferences: get",
            "instancetype.kubevirt.io/virtualmachineclusterpreferences: get",
            "apps/controllerrevisions: get",
            "/events: create patch"
        );

    [Fact]
    public void The_operator_elects_its_leader_in_its_own_namespace_only()
    {
        AssertRules("Role/bgsnap-operator-leader-election", "coordination.k8s.io/leases: create get patch update");
        Assert.Equal("bgsnap-system", Rendered.Value["Role/bgsnap-operator-leader-election"].Namespace);
    }

    [Fact]
    public void Metrics_with_a_token_ask_whose_it_is() =>
        AssertRules(
            "ClusterRole/bgsnap-metrics-auth",
            "authentication.k8s.io/tokenreviews: create",
            "authorization.k8s.io/subjectaccessreviews: create"
        );

    [Fact]
    public void Readers_of_metrics_may_read_metrics() => AssertRules("ClusterRole/bgsnap-metrics-reader", "/metrics: get");

    [Theory]
    [InlineData(
        "view",
        "bgsnap.io/vmbackgroundsnapshots: get list watch",
        "bgsnap.io/vmbackgroundsnapshots/status: get list watch",
        "bgsnap.io/vmbackgroundrestores: get list watch",
        "bgsnap.io/vmbackgroundrestores/status: get list watch",
        "bgsnap.io/vmbackgroundsnapshotschedules: get list watch",
        "bgsnap.io/vmbackgroundsnapshotschedules/status: get list watch"
    )]
    [InlineData(
        "edit",
        "bgsnap.io/vmbackgroundsnapshots: create delete patch update",
        "bgsnap.io/vmbackgroundrestores: create delete patch update",
        "bgsnap.io/vmbackgroundsnapshotschedules: create delete patch update"
    )]
    [InlineData(
        "admin",
        "bgsnap.io/vmbackgroundsnapshots: deletecollection",
        "bgsnap.io/vmbackgroundrestores: deletecollection",
        "bgsnap.io/vmbackgroundsnapshotschedules: deletecollection"
    )]
    public void The_roles_of_users_are_aggregated_into_the_clusters_own(string role, params string[] rules)
    {
        AssertRules($"ClusterRole/bgsnap-{role}", rules);
        string[] above = role switch
        {
            "view" => ["view", "edit", "admin"],
            "edit" => ["edit", "admin"],
            _ => ["admin"],
        };
        Assert.Equal(
            above.Select(r => $"rbac.authorization.k8s.io/aggregate-to-{r}").Order(StringComparer.Ordinal),
            Rendered
                .Value[$"ClusterRole/bgsnap-{role}"]
                .Labels.Select(l => l.Key)
                .Where(k => k.Contains("aggregate-to", StringComparison.Ordinal))
                .Order(StringComparer.Ordinal)
        );
    }

    [Fact]
    public void These_are_all_roles() =>
        Assert.Equal(
            ["admin", "agent", "edit", "metrics-auth", "metrics-reader", "operator", "operator-leader-election", "view"],
            Rendered.Value.OfKind("ClusterRole", "Role").Select(r => r.Name["bgsnap-".Length..]).Order(StringComparer.Ordinal)
        );

    [Fact]
    public void Nobody_gets_secrets_or_everything_or_a_way_to_more()
    {
        foreach ((KubernetesObject role, JsonObject rule) in Rules())
        {
            string[] words =
            [
                .. Strings(rule, "apiGroups"),
                .. Strings(rule, "resources"),
                .. Strings(rule, "verbs"),
                .. Strings(rule, "nonResourceURLs"),
            ];
            Assert.All(words, w => Assert.DoesNotContain("*", w, StringComparison.Ordinal));
            Assert.Empty(
                words.Intersect([
                    "secrets",
                    "configmaps",
                    "serviceaccounts",
                    "serviceaccounts/token",
                    "pods/exec",
                    "pods/attach",
                    "pods/ephemeralcontainers",
                    "nodes/proxy",
                    "nodes",
                    "clusterroles",
                    "clusterrolebindings",
                    "roles",
                    "rolebindings",
                    "escalate",
                    "bind",
                    "impersonate",
                ])
            );
            Assert.True(rule["resourceNames"] is null, role.Id);
        }
    }

    [Fact]
    public void Only_operator_and_agent_are_bound()
    {
        Dictionary<string, string> bound = Rendered
            .Value.OfKind("ClusterRoleBinding", "RoleBinding")
            .ToDictionary(
                b => $"{b["/roleRef/kind"]}/{b["/roleRef/name"]}",
                b => string.Join(' ', b["/subjects"]!.AsArray().Select(s => $"{s!["kind"]}/{s["namespace"]}/{s["name"]}"))
            );
        Assert.Equal(
            new Dictionary<string, string>
            {
                ["ClusterRole/bgsnap-operator"] = "ServiceAccount/bgsnap-system/bgsnap-operator",
                ["Role/bgsnap-operator-leader-election"] = "ServiceAccount/bgsnap-system/bgsnap-operator",
                ["ClusterRole/bgsnap-agent"] = "ServiceAccount/bgsnap-system/bgsnap-agent",
                ["ClusterRole/bgsnap-metrics-auth"] =
                    "ServiceAccount/bgsnap-system/bgsnap-operator ServiceAccount/bgsnap-system/bgsnap-agent",
            },
            bound
        );
    }

    [Fact]
    public void Chart_and_kustomization_grant_the_same()
    {
        List<KubernetesObject> kustomized =
        [
            .. Kustomization.Build(Repository.PathOf("config/rbac")),
            .. KubernetesObject.Parse(Repository.Read("config/metrics/rbac.yaml")),
        ];
        Same.Objects([.. Rendered.Value.OfKind(Kinds)], [.. kustomized.Where(o => o.Kind != "Namespace")]);
    }

    [Fact]
    public void Every_rule_says_why()
    {
        string[] files =
        [
            .. Directory.GetFiles(Repository.PathOf("config/rbac")),
            Repository.PathOf("config/metrics/rbac.yaml"),
            .. Directory.GetFiles(Repository.PathOf("charts/bgsnap/templates"), "*r*.yaml"),
        ];
        int rules = 0;
        foreach (string file in files)
        {
            string[] lines = File.ReadAllLines(file);
            for (int i = 0; i < lines.Length; i++)
            {
                if (
                    !lines[i].StartsWith("  - apiGroups:", StringComparison.Ordinal)
                    && !lines[i].StartsWith("  - nonResourceURLs:", StringComparison.Ordinal)
                )
                    continue;
                rules++;
                Assert.True(
                    lines[i - 1].TrimStart().StartsWith("# ", StringComparison.Ordinal),
                    $"{file}:{i + 1}: a rule without a comment"
                );
            }
        }
        Assert.Equal(2 * Rules().Count(), rules);
    }

    private static void AssertRules(string id, params string[] expected)
    {
        var rules = Rendered.Value[id]["/rules"]!.AsArray().SelectMany(r => Flat((JsonObject)r!));
        Assert.Equal(expected.Order(StringComparer.Ordinal), rules.Order(StringComparer.Ordinal));
    }

    /// <summary>group/resource: verbs.</summary>
    private static IEnumerable<string> Flat(JsonObject rule)
    {
        string verbs = string.Join(' ', Strings(rule, "verbs").Order(StringComparer.Ordinal));
        foreach (string url in Strings(rule, "nonResourceURLs"))
            yield return $"{url}: {verbs}";
        foreach (string group in Strings(rule, "apiGroups"))
        {
            foreach (string resource in Strings(rule, "resources"))
                yield return $"{group}/{resource}: {verbs}";
        }
    }

    private static IEnumerable<(KubernetesObject Role, JsonObject Rule)> Rules() =>
        Rendered
            .Value.OfKind("ClusterRole", "Role")
            .SelectMany(role => role["/rules"]!.AsArray().Select(rule => (role, (JsonObject)rule!)));

    private static string[] Strings(JsonObject rule, string key) => [.. (rule[key] as JsonArray ?? []).Select(w => (string)w!)];
}
