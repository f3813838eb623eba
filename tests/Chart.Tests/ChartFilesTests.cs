using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>What must agree with something else in the repository.</summary>
public sealed partial class ChartFilesTests
{
    private static readonly JsonNode Metadata = Yaml.Documents(Repository.Read("charts/bgsnap/Chart.yaml")).Single();

    [Fact]
    public void The_chart_has_the_version_of_the_product()
    {
        string version = Version().Match(Repository.Read("Directory.Build.props")).Groups[1].Value;
        Assert.Equal(version, (string?)Metadata["version"]);
        Assert.Equal(version, (string?)Metadata["appVersion"]);
    }

    [GeneratedRegex("<Version>(.*)</Version>")]
    private static partial Regex Version();
}
