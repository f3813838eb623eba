namespace Bgsnap.Operator.Tests;

/// <summary>The folders of the operator use each other in one direction only.</summary>
public sealed class FolderTests
{
    [Fact]
    public void No_folders_of_the_operator_form_a_circle()
    {
        FolderGraph graph = new(Sources());
        Assert.Null(graph.Circle());
        Assert.Null(graph.TopCircle());
    }

    [Fact]
    public void Every_namespace_is_its_folder()
    {
        foreach ((string folder, string text) in Sources().Where(s => s.Text.Contains("\nnamespace ", StringComparison.Ordinal)))
            Assert.Contains($"\nnamespace Bgsnap.Operator{(folder.Length == 0 ? "" : "." + folder)};", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("using Bgsnap.Operator.B;")]
    [InlineData("using static Bgsnap.Operator.B.InB;")]
    [InlineData("using Alias = Bgsnap.Operator.B.InB;")]
    [InlineData("class InA { Bgsnap.Operator.B.InB? _b; }")]
    [InlineData("class InA { B.InB? _b; }")]
    public void A_circle_is_found_however_the_name_is_written(string code)
    {
        FolderGraph graph = new([("A", "class InA;\n" + code), ("B", "using Bgsnap.Operator.A;\nclass InB;")]);
        Assert.Equal("A -> B -> A", graph.Circle());
    }

    [Fact]
    public void A_type_of_an_enclosing_namespace_counts_without_a_using() =>
        Assert.Equal(
            "Bgsnap.Operator -> A -> Bgsnap.Operator",
            new FolderGraph([("", "using Bgsnap.Operator.A;\nclass Options;"), ("A", "class InA { Options? _options; }")]).Circle()
        );

    [Fact]
    public void A_circle_through_a_folder_below_is_found_at_the_first_level()
    {
        FolderGraph graph = new([
            ("A", "class InA;"),
            ("A.C", "using Bgsnap.Operator.B;\nclass InC;"),
            ("B", "using Bgsnap.Operator.A;\nclass InB;"),
        ]);
        Assert.Null(graph.Circle());
        Assert.Equal("A -> B -> A", graph.TopCircle());
    }

    [Fact]
    public void A_name_in_a_comment_does_not_count() =>
        Assert.Null(
            new FolderGraph([("A", "class InA; // as Bgsnap.Operator.B.InB"), ("B", "using Bgsnap.Operator.A;\nclass InB;")]).Circle()
        );

    private static List<(string Folder, string Text)> Sources()
    {
        string root = AppContext.BaseDirectory;
        while (!File.Exists(Path.Join(root, "bgsnap.slnx")))
            root = Path.GetDirectoryName(root) ?? throw new InvalidOperationException("the tests do not run below the repository");
        string project = Path.Join(root, "src", "Operator");
        return
        [
            .. Directory
                .EnumerateFiles(project, "*.cs", SearchOption.AllDirectories)
                .Select(f => (Folder: Path.GetRelativePath(project, Path.GetDirectoryName(f)!).TrimStart('.').Replace('/', '.'), File: f))
                .Where(f => f.Folder.Split('.')[0] is not ("bin" or "obj"))
                .Select(f => (f.Folder, File.ReadAllText(f.File))),
        ];
    }
}
