using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>Alerts and dashboard speak of metrics that exist, and every alert has a runbook.</summary>
public sealed partial class MonitoringTests
{
    /// <summary>What operator and agent expose, by the places in their source where metrics are made; true for histograms.</summary>
    private static readonly Dictionary<string, bool> Exposed = Directory
        .GetFiles(Repository.PathOf("src"), "*.cs", SearchOption.AllDirectories)
        .SelectMany(file => Made().Matches(File.ReadAllText(file)))
        .ToDictionary(m => m.Groups[2].Value, m => m.Groups[1].Value is "CreateHistogram" or "Seconds");

    private static readonly string[] Plain = [.. Exposed.Where(m => !m.Value).Select(m => m.Key)];

    private static readonly string[] Histograms = [.. Exposed.Where(m => m.Value).Select(m => m.Key)];

    private static readonly string[] Series =
    [
        .. Plain,
        .. Histograms.SelectMany(h => (string[])[$"{h}_bucket", $"{h}_sum", $"{h}_count"]),
    ];

    private static readonly Lazy<JsonObject[]> Alerts = new(() =>
        [
            .. ChartRenderer.Render(ChartRenderer.Values(("metrics.enabled", true), ("metrics.prometheusRule.enabled", true))).Succeeded()[
                "PrometheusRule/bgsnap"
            ]["/spec/groups"]!
                .AsArray()
                .SelectMany(g => g!["rules"]!.AsArray())
                .Select(r => (JsonObject)r!),
        ]
    );

    [Fact]
    public void The_source_says_which_metrics_there_are()
    {
        Assert.Contains("bgsnap_snapshots_total", Plain);
        Assert.Contains("bgsnap_capture_downtime_seconds", Histograms);
        string[] named =
        [
            .. Directory
                .GetFiles(Repository.PathOf("src"), "*.cs", SearchOption.AllDirectories)
                .SelectMany(file => Named().Matches(File.ReadAllText(file)))
                .Select(m => m.Groups[1].Value),
        ];
        Assert.Equal(named.Order(StringComparer.Ordinal), Exposed.Keys.Order(StringComparer.Ordinal));
    }

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
        Assert.All(Alerts.Value, a =>
            Assert.Equal($"docs/operations.md#{((string)a["alert"]!).ToLowerInvariant()}", (string)a["annotations"]!["runbook_url"]!)
        );
    }

    [Fact]
    public void Alerts_ask_for_metrics_that_exist() => Assert.All(Alerts.Value, alert =>
        {
            string expression = (string)alert["expr"]!;
            Assert.Empty(Metric().Matches(expression).Select(m => m.Value).Except(Series));
            Assert.True(
                Metric().IsMatch(expression)
                    || expression.Contains("up{job=\"bgsnap-agent-metrics\", namespace=\"bgsnap-system\"}", StringComparison.Ordinal),
                expression
            );
        });

    [Fact]
    public void The_dashboard_shows_every_metric_there_is()
    {
        Rendering rendering = ChartRenderer
            .Render(ChartRenderer.Values(("metrics.enabled", true), ("metrics.dashboard.enabled", true)))
            .Succeeded();
        string text = (string)rendering["ConfigMap/bgsnap-dashboard"]["/data/bgsnap.json"]!;
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(Repository.Read("charts/bgsnap/dashboards/bgsnap.json")), JsonNode.Parse(text)));
        string[] asked =
        [
            .. JsonNode.Parse(text)!["panels"]!
                .AsArray()
                .SelectMany(p => p!["targets"]!.AsArray())
                .SelectMany(t => Metric().Matches((string)t!["expr"]!).Select(m => m.Value)),
        ];
        Assert.Empty(asked.Except(Series));
        Assert.Equal(
            Plain.Concat(Histograms.Select(h => $"{h}_bucket")).Order(StringComparer.Ordinal),
            asked.Distinct().Order(StringComparer.Ordinal)
        );
    }

    [Fact]
    public void The_documentation_lists_every_metric_there_is() =>
        Assert.Equal(
            Plain.Concat(Histograms).Order(StringComparer.Ordinal),
            MetricRow().Matches(Repository.Read("docs/operations.md")).Select(m => m.Groups[1].Value).Order(StringComparer.Ordinal)
        );

    [GeneratedRegex(@"\b(Create\w+|Seconds)\(\s*""(bgsnap_[a-z_]+)""")]
    private static partial Regex Made();

    [GeneratedRegex(@"""(bgsnap_[a-z_]+)""")]
    private static partial Regex Named();

    [GeneratedRegex(@"\bbgsnap_[a-z_]+\b")]
    private static partial Regex Metric();

    [GeneratedRegex(@"^\| `(bgsnap_[a-z_]+)", RegexOptions.Multiline)]
    private static partial Regex MetricRow();

    [GeneratedRegex(@"^### (Bgsnap\w+)$", RegexOptions.Multiline)]
    private static partial Regex RunbookHeading();
}
