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

    /// <summary>The table is written by `make chart-readme`.</summary>
    [Fact]
    public void The_readme_lists_the_values_as_they_are()
    {
        string readme = Repository.Read("charts/bgsnap/README.md");
        const string Begin = "<!-- values: made by `make chart-readme` -->\n", End = "<!-- end of values -->";
        int begin = readme.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length, end = readme.IndexOf(End, StringComparison.Ordinal);
        Assert.Equal(ValuesTable.Markdown, readme[begin..end]);
    }

    [GeneratedRegex("<Version>(.*)</Version>")]
    private static partial Regex Version();
}
