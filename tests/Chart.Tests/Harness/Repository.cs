namespace Bgsnap.Chart.Tests.Harness;

/// <summary>The files of the repository that the tests are about.</summary>
public static class Repository
{
    /// <summary>The directory that holds bgsnap.slnx, upwards from the test's own.</summary>
    public static string Root { get; } = Find();

    public static string Chart => PathOf("charts/bgsnap");

    public static string PathOf(string relative) => Path.Combine(Root, relative);

    public static string Read(string relative) => File.ReadAllText(PathOf(relative));

    private static string Find()
    {
        for (DirectoryInfo? dir = new(AppContext.BaseDirectory); dir is not null; dir = dir.Parent)
        {
            if (File.Exists(Path.Combine(dir.FullName, "bgsnap.slnx")))
                return dir.FullName;
        }
        throw new InvalidOperationException($"no bgsnap.slnx above {AppContext.BaseDirectory}");
    }
}
