using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>Operator and agent run with exactly the shipped roles; the API server rejects any request beyond them.</summary>
[Collection(nameof(RealCluster))]
public sealed class AccessTests(ClusterFixture cluster)
{
    [SkippableTheory]
    [InlineData("agent", "get", "pods", true)]
    [InlineData("agent", "watch", "snapshottasks.bgsnap.io", true)]
    [InlineData("agent", "patch", "snapshottasks.bgsnap.io/status", true)]
    [InlineData("agent", "patch", "snapshottasks.bgsnap.io", false)]
    [InlineData("agent", "create", "snapshottasks.bgsnap.io", false)]
    [InlineData("agent", "list", "pods", false)]
    [InlineData("agent", "delete", "pods", false)]
    [InlineData("agent", "get", "secrets", false)]
    [InlineData("agent", "get", "vmbackgroundsnapshots.bgsnap.io", false)]
    [InlineData("operator", "create", "pods", true)]
    [InlineData("operator", "patch", "vmbackgroundsnapshots.bgsnap.io/status", true)]
    [InlineData("operator", "create", "snapshottasks.bgsnap.io", true)]
    [InlineData("operator", "patch", "snapshottasks.bgsnap.io/status", false)]
    [InlineData("operator", "get", "secrets", false)]
    [InlineData("operator", "delete", "persistentvolumeclaims", true)]
    [InlineData("operator", "patch", "persistentvolumeclaims", false)]
    [InlineData("operator", "delete", "vmbackgroundsnapshots.bgsnap.io", true)]
    [InlineData("operator", "delete", "vmbackgroundrestores.bgsnap.io", false)]
    [InlineData("operator", "create", "vmbackgroundrestores.bgsnap.io", false)]
    [InlineData("operator", "delete", "vmbackgroundsnapshotschedules.bgsnap.io", false)]
    [InlineData("operator", "patch", "pods", false)]
    [InlineData("operator", "create", "pods/exec", false)]
    public async Task Each_account_has_exactly_these_rights(string account, string verb, string resource, bool allowed)
    {
        cluster.Need();
        var parts = resource.Split('/');
        List<string> question =
        [
            "auth",
            "can-i",
            verb,
            parts[0],
            "-n",
            "default",
            $"--as=system:serviceaccount:{ClusterFixture.Namespace}:bgsnap-{account}",
        ];
        if (parts.Length > 1)
            question.Add("--subresource=" + parts[1]);
        var answer = await cluster.Kubectl.TryAsync(null, [.. question]);
        Assert.Equal(allowed ? "yes" : "no", answer.Output.Trim());
    }
}
