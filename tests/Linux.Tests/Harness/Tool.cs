namespace Bgsnap.Linux.Tests.Harness;

/// <summary>System programs that tests use: qemu-img, losetup, mkfs.ext4, ...</summary>
public static class Tool
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <summary>Runs a program, which must succeed. Returns its output.</summary>
    public static async Task<string> RunAsync(string program, params IEnumerable<string> arguments)
    {
        var (code, output) = await TryAsync(program, arguments).ConfigureAwait(false);
        return code == 0
            ? output
            : throw new InvalidOperationException($"{program} {string.Join(' ', arguments)}: exit code {code}: {output}");
    }

    /// <summary>Runs a program. Returns its exit code and output.</summary>
    public static async Task<(int Code, string Output)> TryAsync(string program, params IEnumerable<string> arguments)
    {
        // losetup, mkfs and fsck are not in every user's PATH.
        await using var process = await GuardedProcess
            .StartAsync(
                [program, .. arguments],
                new Dictionary<string, string> { ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin", ["LC_ALL"] = "C" }
            )
            .ConfigureAwait(false);
        var code = await process.Exit.WaitAsync(Patience).ConfigureAwait(false);
        return (code, process.StandardOutput + process.StandardError);
    }
}
