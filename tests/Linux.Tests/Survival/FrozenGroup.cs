using System.Globalization;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>The kernel's two freezers.</summary>
public enum Freezer
{
    /// <summary>The freezer of cgroup v1, a separate hierarchy; a frozen process takes no signal, not even SIGKILL.</summary>
    V1,

    /// <summary>cgroup.freeze of v2; a frozen process can be killed.</summary>
    V2,
}

/// <summary>A control group with frozen processes, as `docker pause` does it.</summary>
public sealed class FrozenGroup : IAsyncDisposable
{
    private readonly string _group;
    private readonly Freezer _freezer;

    private FrozenGroup(Freezer freezer, string group) => (_freezer, _group) = (freezer, group);

    /// <summary>Moves the processes into a new group and freezes it; skips the test where this freezer is missing.</summary>
    public static async Task<FrozenGroup> OfAsync(Freezer freezer, params int[] processes)
    {
        var top =
            freezer == Freezer.V1
                ? "/sys/fs/cgroup/freezer"
                : new[] { "/sys/fs/cgroup/unified", "/sys/fs/cgroup" }.FirstOrDefault(t =>
                    File.Exists(Path.Combine(t, "cgroup.controllers"))
                );
        Skip.If(top is null || !File.Exists(Path.Combine(top, "cgroup.procs")), $"no freezer {freezer} is mounted");
        FrozenGroup group = new(freezer, Directory.CreateDirectory(Path.Combine(top!, $"bgsnap-test-{Guid.NewGuid():N}")).FullName);
        try
        {
            foreach (var pid in processes)
                File.WriteAllText(Path.Combine(group._group, "cgroup.procs"), pid.ToString(CultureInfo.InvariantCulture));
            await group.SetAsync(frozen: true).ConfigureAwait(false);
            return group;
        }
        catch
        {
            await group.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public Task ThawAsync() => SetAsync(frozen: false);

    /// <summary>Thaws the group, and removes it when its processes have ended.</summary>
    public async ValueTask DisposeAsync()
    {
        await ThawAsync().ConfigureAwait(false);
        for (var i = 0; Directory.Exists(_group); i++)
        {
            try
            {
                Directory.Delete(_group);
            }
            catch (IOException) when (i < 1000)
            {
                await Task.Delay(10).ConfigureAwait(false);
            }
        }
    }

    private Task SetAsync(bool frozen)
    {
        var (file, word) = _freezer == Freezer.V1 ? ("freezer.state", frozen ? "FROZEN" : "THAWED") : ("cgroup.freeze", frozen ? "1" : "0");
        return File.WriteAllTextAsync(Path.Combine(_group, file), word);
    }
}
