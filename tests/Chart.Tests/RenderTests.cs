using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>The chart as a whole.</summary>
public sealed class RenderTests
{
    private static readonly string[] ClusterScoped = ["ClusterRole", "ClusterRoleBinding", "PriorityClass", "Namespace"];

    private static readonly string[] Everything =
    [
        "metrics.enabled",
        "metrics.serviceMonitor.enabled",
        "metrics.prometheusRule.enabled",
        "metrics.dashboard.enabled",
        "namespace.create",
    ];

    [Fact]
    public void By_default_there_is_this_and_no_more() =>
        Assert.Equal(
            [
                "ClusterRole/bgsnap-admin",
                "ClusterRole/bgsnap-agent",
                "ClusterRole/bgsnap-edit",
                "ClusterRole/bgsnap-operator",
                "ClusterRole/bgsnap-view",
                "ClusterRoleBinding/bgsnap-agent",
                "ClusterRoleBinding/bgsnap-operator",
                "DaemonSet/bgsnap-agent",
                "Deployment/bgsnap-operator",
                "NetworkPolicy/bgsnap-agent",
                "NetworkPolicy/bgsnap-operator",
                "PodDisruptionBudget/bgsnap-operator",
                "PriorityClass/bgsnap",
                "Role/bgsnap-operator-leader-election",
                "RoleBinding/bgsnap-operator-leader-election",
                "ServiceAccount/bgsnap-agent",
                "ServiceAccount/bgsnap-operator",
            ],
            ChartRenderer.Render().Succeeded().Objects.Keys.Order(StringComparer.Ordinal)
        );

    [Fact]
    public void Rendering_twice_gives_the_same() =>
        Assert.Equal(ChartRenderer.Render().Succeeded().Output, ChartRenderer.Render().Succeeded().Output);

    [Theory]
    [InlineData("1.20.2", false)]
    [InlineData("1.21.0", true)]
    [InlineData("1.36.4", true)]
    public void A_budget_is_made_where_the_cluster_has_policy_v1(string version, bool there) =>
        Assert.Equal(there, ChartRenderer.Render(null, "--kube-version", version).Succeeded().OfKind("PodDisruptionBudget").Any());

    [Fact]
    public void A_cluster_that_is_too_old_is_refused()
    {
        Rendering rendering = ChartRenderer.Render(null, "--kube-version", "1.19.16");
        Assert.Equal(1, rendering.ExitCode);
        Assert.Contains("kubeVersion: >=1.20.0-0", rendering.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Vendors_versions_are_not_too_old() => ChartRenderer.Render(null, "--kube-version", "1.20.7-gke.100").Succeeded();

    [Fact]
    public void What_has_a_namespace_is_in_the_releases()
    {
        Rendering rendering = All("--name-template", "prod", "--namespace", "vms");
        Assert.All(rendering.Objects.Values, o => Assert.Equal(ClusterScoped.Contains(o.Kind) ? null : "vms", o.Namespace));
        Assert.Equal("vms", rendering.OfKind("Namespace").Single().Name);
        Assert.All(rendering.OfKind("ClusterRoleBinding"), b => Assert.Equal("vms", (string?)b["/subjects/0/namespace"]));
    }

    [Fact]
    public void Two_releases_do_not_share_objects()
    {
        var first = All("--name-template", "one", "--namespace", "a").Objects.Keys;
        var second = All("--name-template", "two", "--namespace", "b").Objects.Keys;
        Assert.Empty(first.Intersect(second));
    }

    [Fact]
    public void Names_and_labels_fit_the_longest_release()
    {
        // 53 characters is what Helm allows.
        Rendering rendering = All("--name-template", new string('r', 53));
        Assert.All(rendering.Objects.Values, o => Assert.True(o.Name.Length <= 63, o.Name));
        Assert.All(rendering.Objects.Values, o => Assert.All(o.Labels, l => Assert.True(l.Value!.ToString().Length <= 63, l.ToString())));
    }

    [Fact]
    public void Every_object_says_whose_it_is() => Assert.All(All().Objects.Values, o =>
        {
            Assert.Equal("bgsnap", (string?)o.Labels["app.kubernetes.io/name"]);
            Assert.Equal("Helm", (string?)o.Labels["app.kubernetes.io/managed-by"]);
            Assert.Equal("0.1.0", (string?)o.Labels["app.kubernetes.io/version"]);
        });

    /// <summary>What is not Kubernetes' own is not made unasked: an API server without it refuses the whole installation.</summary>
    [Fact]
    public void Without_wishes_everything_is_Kubernetes_own() =>
        Assert.All(ChartRenderer.Render(ChartRenderer.Values(("metrics.enabled", true))).Succeeded().Objects.Values, o =>
            Assert.DoesNotContain("coreos", o.ApiVersion, StringComparison.Ordinal)
        );

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_notes_help_on(bool metrics)
    {
        string notes = ChartRenderer.Notes(ChartRenderer.Values(("metrics.enabled", metrics)));
        Assert.Contains("kubectl -n bgsnap-system rollout status daemonset/bgsnap-agent", notes, StringComparison.Ordinal);
        Assert.Contains(
            "kubectl label namespace bgsnap-system --overwrite pod-security.kubernetes.io/audit=privileged",
            notes,
            StringComparison.Ordinal
        );
        Assert.Equal(metrics, notes.Contains("bgsnap-metrics-reader", StringComparison.Ordinal));
        Assert.DoesNotContain("server-side -f crds/", notes, StringComparison.Ordinal);
    }

    /// <summary>Helm's own look at the chart: its warnings count too.</summary>
    [Fact]
    public void Helm_finds_nothing_to_complain_of() => Assert.All((string[])["1.20.2", "1.36.4"], version =>
        {
            Rendering lint = ChartRenderer.Helm("lint", Repository.Chart, "--strict", "--kube-version", version);
            Assert.True(lint.ExitCode == 0, lint.Output + lint.Error);
            Assert.Contains("1 chart(s) linted, 0 chart(s) failed", lint.Output, StringComparison.Ordinal);
        });

    private static Rendering All(params string[] options) =>
        ChartRenderer
            .Render(ChartRenderer.Values([.. Everything.Select(v => (v, (System.Text.Json.Nodes.JsonNode?)true))]), options)
            .Succeeded();
}
