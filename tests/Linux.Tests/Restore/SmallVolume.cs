using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>A small file system, which is soon full.</summary>
internal sealed class SmallVolume : IDisposable
{
    public SmallVolume(string folder, long bytes)
    {
        Folder = Directory.CreateDirectory(folder).FullName;
        using var mount = Process.Start("mount", ["-t", "tmpfs", "-o", $"size={bytes}", "bgsnap-test", Folder]);
        mount.WaitForExit();
        Assert.Equal(0, mount.ExitCode);
    }

    public string Folder { get; }

    public void Dispose() => HarnessLibc.Unmount(Folder);
}
