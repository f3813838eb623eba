using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>Alerts and dashboard speak of metrics that exist, and every alert has a runbook.</summary>
public sealed partial class MonitoringTests
{
    // What operator and agent expose. A metric that is renamed there is renamed here, in the alerts and in the docs.
    private static readonly string[] Plain =
    [
        "bgsnap_snapshots_total", "bgsnap_reconcile_total", "bgsnap_reconcile_errors_total", "bgsnap_workqueue_depth", "bgsnap_queued_snapshots",
        "bgsnap_leader", "bgsnap_snapshots", "bgsnap_captures_total", "bgsnap_captures_running", "bgsnap_watchdog_kills_total",
    ];

    private static readonly string[] Histograms =
    [
        "bgsnap_snapshot_duration_seconds", "bgsnap_reconcile_duration_seconds", "bgsnap_capture_downtime_seconds", "bgsnap_capture_protection_window_seconds",
        "bgsnap_capture_duration_seconds", "bgsnap_capture_throughput_bytes_per_second", "bgsnap_capture_stored_bytes", "bgsnap_capture_fault_latency_seconds",
    ];

    private static readonly string[] Series = [.. Plain, .. Histograms.SelectMany(h => (string[])[$"{h}_bucket", $"{h}_sum", $"{h}_count"])];

    private static readonly Lazy<JsonObject[]> Alerts = new(() =>
    [
        .. ChartRenderer.Render(ChartRenderer.Values(("metrics.enabled", true), ("metrics.prometheusRule.enabled", true))).Succeeded()["PrometheusRule/bgsnap"]
            ["/spec/groups"]!.AsArray().SelectMany(g => g!["rules"]!.AsArray()).Select(r => (JsonObject)r!),
    ]);

    [Fact]
    public void Every_alert_is_whole()
    {
        Assert.True(Alerts.Value.Length >= 10);
        Assert.Equal(Alerts.Value.Length, Alerts.Value.Select(a => (string)a["alert"]!).Distinct().Count());
        Assert.All(Alerts.Value, alert =>
        {
            Assert.StartsWith("Bgsnap", (string)alert["alert"]!, StringComparison.Ordinal);
            Assert.Contains((string)alert["labels"]!["severity"]!, (string[])["warning", "critical"]);
            Assert.NotEmpty((string)alert["annotations"]!["summary"]!);
        });
    }

    [Fact]
    public void Every_alert_has_a_runbook_and_every_runbook_an_alert()
    {
        string[] runbooks = [.. RunbookHeading().Matches(Repository.Read("docs/operations.md")).Select(m => m.Groups[1].Value)];
        Assert.Equal(Alerts.Value.Select(a => (string)a["alert"]!).Order(StringComparer.Ordinal), runbooks.Order(StringComparer.Ordinal));
        // The anchor of a heading of one word is the word in small letters.
        Assert.All(Alerts.Value, a => Assert.Equal($"docs/operations.md#{((string)a["alert"]!).ToLowerInvariant()}", (string)a["annotations"]!["runbook_url"]!));
    }

    [Fact]
    public void Alerts_ask_for_metrics_that_exist() => Assert.All(Alerts.Value, alert =>
    {
        string expression = (string)alert["expr"]!;
        Assert.Empty(Metric().Matches(expression).Select(m => m.Value).Except(Series));
        Assert.True(Metric().IsMatch(expression) || expression.Contains("up{job=\"bgsnap-agent-metrics\", namespace=\"bgsnap-system\"}", StringComparison.Ordinal), expression);
    });

    [Fact]
    public void The_dashboard_shows_every_metric_there_is()
    {
        Rendering rendering = ChartRenderer.Render(ChartRenderer.Values(("metrics.enabled", true), ("metrics.dashboard.enabled", true))).Succeeded();
        string text = (string)rendering["ConfigMap/bgsnap-dashboard"]["/data/bgsnap.json"]!;
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(Repository.Read("charts/bgsnap/dashboards/bgsnap.json")), JsonNode.Parse(text)));
        string[] asked = [.. JsonNode.Parse(text)!["panels"]!.AsArray().SelectMany(p => p!["targets"]!.AsArray()).SelectMany(t => Metric().Matches((string)t!["expr"]!).Select(m => m.Value))];
        Assert.Empty(asked.Except(Series));
        Assert.Equal(Plain.Concat(Histograms.Select(h => $"{h}_bucket")).Order(StringComparer.Ordinal), asked.Distinct().Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_documentation_lists_every_metric_there_is() => Assert.Equal(
        Plain.Concat(Histograms).Order(StringComparer.Ordinal),
        MetricRow().Matches(Repository.Read("docs/operations.md")).Select(m => m.Groups[1].Value).Order(StringComparer.Ordinal));

    [GeneratedRegex(@"\bbgsnap_[a-z_]+\b")]
    private static partial Regex Metric();

    [GeneratedRegex(@"^\| `(bgsnap_[a-z_]+)", RegexOptions.Multiline)]
    private static partial Regex MetricRow();

    [GeneratedRegex(@"^### (Bgsnap\w+)$", RegexOptions.Multiline)]
    private static partial Regex RunbookHeading();
}
