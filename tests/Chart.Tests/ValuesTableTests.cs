using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>The table of values for the chart's README.</summary>
public sealed class ValuesTableTests
{
    /// <summary>`make chart-readme` writes the table.</summary>
    [Fact]
    public void The_readme_lists_the_values_as_they_are()
    {
        string readme = Repository.Read("charts/bgsnap/README.md");
        Assert.Equal(ValuesReadme.WithTable(readme, ValuesTable.Markdown(ChartValues.Text)), readme);
    }

    [Fact]
    public void A_value_has_its_path_its_default_and_its_comment() =>
        Assert.Equal(
            "| Value | Default | |\n|---|---|---|\n"
                + "| `a.text` | `\"x\"` | This or that: `a\\|b`. |\n"
                + "| `a.map` | `{\"c\":1,\"d\":[true,null]}` | A map is one value where its keys have no comments. |\n",
            ValuesTable.Markdown(
                """
                a:
                  # This or
                  # that: `a|b`.
                  text: x

                  # A map is one value where its keys have no comments.
                  map: {c: 1, d: [true, null]}
                """
            )
        );

    [Fact]
    public void A_value_without_a_comment_has_no_place_in_the_table()
    {
        FormatException error = Assert.Throws<FormatException>(() => ValuesTable.Markdown("# The first.\nfirst: 1\nnumber: 2\n"));
        Assert.Equal("values.yaml:3: number has no comment above it", error.Message);
    }

    [Fact]
    public void A_readme_without_a_place_for_the_table_is_refused() =>
        Assert.Throws<FormatException>(() => ValuesReadme.WithTable("# Chart\n", "| Value |\n"));
}
