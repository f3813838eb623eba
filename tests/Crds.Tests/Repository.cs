namespace Bgsnap.Crds.Tests;

/// <summary>Files of the repository, found from where the tests were built.</summary>
internal static class Repository
{
    internal static string Root { get; } = Find();

    internal static string Path(params string[] parts) => System.IO.Path.Combine([Root, .. parts]);

    private static string Find()
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = System.IO.Path.GetDirectoryName(folder))
            if (File.Exists(System.IO.Path.Combine(folder, "bgsnap.slnx")))
                return folder;
        throw new InvalidOperationException("the tests do not run below the repository");
    }
}
