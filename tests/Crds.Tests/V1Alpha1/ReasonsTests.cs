using System.Text.RegularExpressions;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Manifests;
using Bgsnap.Vocabulary;

namespace Bgsnap.Crds.Tests.V1Alpha1;

public sealed class ReasonsTests
{
    [Fact]
    public void The_page_is_what_the_list_says() =>
        Assert.True(
            ReasonsPage.Text() == File.ReadAllText(Repository.Path("docs", "reasons.md")),
            "docs/reasons.md differs from src/Vocabulary/Reasons.*.cs: run `make reasons`"
        );

    [Fact]
    public void Each_reason_is_on_the_page_once()
    {
        string page = ReasonsPage.Text();
        Assert.True(Reasons.All.Count > 150);
        foreach (Reason reason in Reasons.All)
            Assert.Single(Regex.Matches(page, $@"^\| `{reason.Name}` \|", RegexOptions.Multiline));
    }

    [Fact]
    public void Each_reason_has_a_meaning_and_a_remedy_of_one_line()
    {
        foreach (Reason reason in Reasons.All)
        foreach (string text in new[] { reason.SeenAs, reason.Meaning, reason.Remedy })
        {
            Assert.False(string.IsNullOrWhiteSpace(text), reason.Name);
            Assert.DoesNotContain('\n', text);
        }
    }

    // As metav1.Condition has it: CamelCase, at most 1,024 characters; and the value is the constant's name, so that both can be searched.
    [Fact]
    public void A_name_is_a_word_that_a_condition_takes()
    {
        foreach (Reason reason in Reasons.All)
        {
            Assert.Matches("^[A-Z][A-Za-z0-9]+$", reason.Name);
            Assert.Equal(reason.Name, typeof(Reasons).GetField(reason.Name)!.GetRawConstantValue());
        }
    }
}
