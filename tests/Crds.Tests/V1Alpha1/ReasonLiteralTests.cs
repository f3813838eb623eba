using Bgsnap.Vocabulary;

namespace Bgsnap.Crds.Tests.V1Alpha1;

public sealed class ReasonLiteralTests
{
    // Reasons of the API server, in its own answers.
    private static readonly string[] Others = ["src/ControllerRuntime/Client/"];

    [Fact]
    public void No_reason_is_written_as_text_in_the_sources()
    {
        int files = 0;
        List<string> found = [];
        foreach (string file in Directory.GetFiles(Repository.Path("src"), "*.cs", SearchOption.AllDirectories))
        {
            string name = Path.GetRelativePath(Repository.Root, file);
            if (name.Contains("/obj/", StringComparison.Ordinal) || name.Contains("/bin/", StringComparison.Ordinal))
                continue;
            if (name.StartsWith("src/Vocabulary/Reason", StringComparison.Ordinal) || Others.Any(name.StartsWith))
                continue;
            files++;
            found.AddRange(ReasonLiterals.In(File.ReadAllText(file)).Select(f => $"{name}:{f}"));
        }
        Assert.True(files > 100, $"only {files} files were found");
        Assert.True(found.Count == 0, "use Reasons (src/Vocabulary/Reasons.*.cs):\n" + string.Join('\n', found));
    }

    [Theory]
    [InlineData("throw new CaptureFailedException(\"QemuGone\", \"QEMU ended\");", "1: \"QemuGone\"")]
    [InlineData("throw new TaskFailure(\n    \"NewWord\",\n    \"text\"\n);", "1: NewWord, which is not in the list")]
    [InlineData("x => new(\"error\", \"NewWord\", e.Message)", "1: NewWord, which is not in the list")]
    [InlineData("throw new Waiting(\"Paused\", \"it is paused\");", "1: \"Paused\"")]
    [InlineData("catch (TaskFailure e) when (e.Reason == \"NewWord\")", "1: NewWord, which is not in the list")]
    [InlineData("or CaptureFailedException { Reason: \"GuestStateChanged\" }", "1: \"GuestStateChanged\"")]
    [InlineData("string reason = full ? Reasons.TargetFull\n    : \"DiskNotWritten\";", "2: \"DiskNotWritten\"")]
    public void A_reason_that_is_written_as_text_is_found(string source, string found) =>
        Assert.Equal(found, Assert.Single(ReasonLiterals.In(source)));

    [Theory]
    [InlineData("throw new TaskFailure(Reasons.QemuGone, \"QEMU ended\");")]
    [InlineData("public const string Queued = \"Queued\";")]
    [InlineData("if (pod.Status?.Phase is \"Succeeded\" or \"Failed\")")]
    [InlineData("// as \"QemuGone\" says")]
    [InlineData("throw new TaskFailure(reason, \"Pod\");")]
    public void What_is_no_reason_is_left_alone(string source) => Assert.Empty(ReasonLiterals.In(source));
}
