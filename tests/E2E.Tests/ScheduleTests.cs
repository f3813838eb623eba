using System.Text.Json.Nodes;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>
/// Snapshots by schedule, on the real API server: created when due, as many kept as requested, and no new ones while suspended.
/// </summary>
[Collection(nameof(RealCluster))]
public sealed class ScheduleTests(ClusterFixture cluster)
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(3);

    [SkippableFact]
    public async Task Each_minute_gets_its_snapshot_and_the_previous_one_is_deleted()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync();

        await lab.ApplyAsync(Schedule("each", "* * * * *"));
        await cluster.Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Ready", "vmbgss/each", "--timeout=60s");

        var first = await LastAsync(lab, "each", _ => true);
        await lab.ReadyAsync(first, Limit);
        var second = await LastAsync(lab, "each", last => last != first);
        await lab.ReadyAsync(second, Limit);
        await SuspendAsync(lab, "each");
        await cluster.Kubectl.GoneAsync(Lab.Soon, "-n", lab.Name, "vmbgs", first);

        // Each has the minute of its due time, and follows the template.
        Assert.Equal(TimeSpan.FromMinutes(1), Minute(second) - Minute(first));
        var snapshot = await lab.SnapshotAsync(second);
        Assert.Equal("each", snapshot["metadata"]!["labels"]!["bgsnap.io/schedule"]!.GetValue<string>());
        Assert.Equal("yes", snapshot["metadata"]!["labels"]!["from-template"]!.GetValue<string>());
        Assert.Equal(
            snapshot["status"]!["directory"]!.GetValue<string>(),
            Path.GetFileName(Assert.Single(Directory.GetDirectories(claim)))
        );

        // While suspended it creates no more, although the next minute comes.
        await Task.Delay(TimeSpan.FromSeconds(61 - DateTime.UtcNow.Second + 4));
        var left = (JsonArray)(await cluster.Kubectl.GetAsync("-n", lab.Name, "vmbgs"))["items"]!;
        Assert.Equal([second], left.Select(s => s!["metadata"]!["name"]!.GetValue<string>()));

        // Its snapshots stay when it is deleted.
        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgss", "each", "--timeout=60s");
        await lab.ReadyAsync(second);
        await lab.CountsAsync("vm");
    }

    [SkippableFact]
    public async Task An_unknown_time_zone_is_reported_and_creates_nothing_until_it_is_corrected()
    {
        await using var lab = await Lab.CreateAsync(cluster);

        await lab.ApplyAsync(Schedule("lost", "0 3 1 1 *", "timeZone: Europe/Atlantis"));

        var lost = await UntilAsync(lab, "lost", "Invalid", s => Lab.Phase(s) == "Invalid");
        Assert.Equal("InvalidTimeZone", Lab.Reason(lost));
        Assert.Contains("Europe/Atlantis", Lab.Message(lost)!, StringComparison.Ordinal);
        await lab.ApplyAsync(Schedule("lost", "0 3 1 1 *", "timeZone: Europe/Berlin"));
        var found = await UntilAsync(lab, "lost", "Scheduled", s => Lab.Phase(s) == "Scheduled");
        Assert.EndsWith("-01-01T02:00:00Z", found["status"]!["nextScheduleTime"]!.GetValue<string>(), StringComparison.Ordinal);
    }

    private static string Schedule(string name, string cron, string more = "retention: { count: 1 }") =>
        $$"""
            apiVersion: bgsnap.io/v1alpha1
            kind: VMBackgroundSnapshotSchedule
            metadata: { name: {{name}} }
            spec:
              schedule: "{{cron}}"
              {{more}}
              template:
                metadata: { labels: { from-template: "yes" } }
                spec:
                  source: { apiGroup: "", kind: Pod, name: vm }
                  target: { persistentVolumeClaim: { claimName: snapshots } }
            """;

    private async Task<string> LastAsync(Lab lab, string name, Func<string, bool> wanted) =>
        (await UntilAsync(lab, name, "a snapshot", s => s["status"]?["lastSnapshotName"]?.GetValue<string>() is { } last && wanted(last)))[
            "status"
        ]!["lastSnapshotName"]!.GetValue<string>();

    private async Task SuspendAsync(Lab lab, string name)
    {
        await cluster.Kubectl.RunAsync("-n", lab.Name, "patch", "vmbgss", name, "--type=merge", "-p", """{"spec":{"suspend":true}}""");
        var suspended = await UntilAsync(lab, name, "Suspended", s => Lab.Phase(s) == "Suspended");
        Assert.Null(suspended["status"]!["nextScheduleTime"]);
    }

    private Task<JsonNode> UntilAsync(Lab lab, string name, string what, Func<JsonNode, bool> wanted) =>
        cluster.Kubectl.UntilAsync(what, wanted, Limit, "-n", lab.Name, "vmbgss", name);

    private static DateTime Minute(string snapshot) =>
        DateTime.ParseExact(snapshot[(snapshot.LastIndexOf('-') + 1)..], "yyyyMMddHHmm", System.Globalization.CultureInfo.InvariantCulture);
}
