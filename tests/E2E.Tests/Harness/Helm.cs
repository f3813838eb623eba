namespace Bgsnap.E2E.Tests.Harness;

/// <summary>Runs Helm, as a person would, on the release of bgsnap.</summary>
public sealed class Helm(string kubeconfig)
{
    private const string Release = "bgsnap";

    /// <summary>Runs a Helm command on the release, such as <c>rollback</c>.</summary>
    /// <param name="command">One word, or two as in <c>get manifest</c>.</param>
    /// <param name="more">The arguments after the release's name.</param>
    public async Task<string> RunAsync(string command, params string[] more) =>
        (
            await Command.RunAsync(
                Path.Join(Repository.Root, "hack", "helm"),
                [.. command.Split(' '), Release, "--namespace", ClusterFixture.Namespace, .. more],
                null,
                TimeSpan.FromMinutes(4),
                ("KUBECONFIG", kubeconfig),
                ("HOME", Path.GetDirectoryName(kubeconfig)!)
            )
        ).Ok();

    /// <summary>Upgrades or installs the release with these values over the chart's own, and waits until its pods are ready.</summary>
    /// <param name="set">Values for Helm's <c>--set</c>.</param>
    public Task<string> UpgradeAsync(params string[] set)
    {
        // Without the definitions: an API server of 1.20 is too old for their rules, so another one serves them.
        string[] options = ["--install", "--skip-crds", "--wait", "--timeout=3m"];
        return RunAsync("upgrade", [Path.Join(Repository.Root, "charts", "bgsnap"), .. options, .. set.Select(s => "--set=" + s)]);
    }
}
