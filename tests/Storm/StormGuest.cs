using System.Text.RegularExpressions;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>The machine of a round, its user, and the places of its snapshots.</summary>
internal sealed partial class StormGuest : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);
    private int _number;

    private StormGuest(VirtualMachine machine, RoundPlan plan, Tally tally)
    {
        Machine = machine;
        Watch = new GuestWatch(machine, tally);
        Plugs = new Plugs(machine, plan.Machine.Machine == "q35");
        Outputs = Directory.CreateDirectory(Path.Combine(machine.Folder, "outputs")).FullName;
    }

    public VirtualMachine Machine { get; }

    public GuestWatch Watch { get; }

    public Plugs Plugs { get; }

    /// <summary>The images of foreign external snapshots.</summary>
    public List<string> Overlays { get; } = [];

    /// <summary>The folder for outputs on the host's own disk.</summary>
    public string Outputs { get; }

    public static async Task<StormGuest> StartAsync(RoundPlan plan, Tally tally)
    {
        var machine = await VirtualMachine.StartAsync(plan.Machine);
        try
        {
            // Waits until every writer has completed one pass, so that its pages hold two different numbers at any moment; with disks, the
            // writes to disks count.
            var guest = (LinuxGuest)plan.Machine.Guest;
            var first = plan.Machine.Disks.Count > 0 ? 50 : (long)guest.MiB * 256 * guest.Writers;
            await machine.WaitForReportAsync(r => r.Writes > first, "the guest's first rounds", TimeSpan.FromSeconds(90));
            return new StormGuest(machine, plan, tally);
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <summary>
    /// QEMU's own engine has run (or may have): since 8.0, QEMU opens the userfaultfd device for it once and keeps it open.
    /// </summary>
    public bool QemuKeepsDevice { get; set; }

    public int NextNumber() => Interlocked.Increment(ref _number);

    /// <summary>
    /// Asserts that nothing of ours is left in QEMU. If the guest ran before and runs now, everything visible must be as before; otherwise
    /// the check recognises our objects by name.
    /// </summary>
    public async Task NothingIsLeftAsync(BlockGraph? before, string after)
    {
        using (await HarnessQmp.ConnectAsync(Machine.QmpSocket, CancellationToken.None))
        {
            // When a client disconnects, QEMU closes what was removed while the guest was paused.
        }

        if (before is { Process.RunState: "running" } && Watch.Runs && !before.Process.Items.Any(IsOurs))
        {
            var differences = (await before.Process.DifferencesAfterwardsAsync(Machine, Patience)).Where(d => !IsQemusOwn(d)).ToList();
            if (differences.Count > 0)
                throw new ViolationException(Promise.Leftover, $"{after}: {string.Join("; ", differences)}");
            var blocks = (await BlockGraph.TakeAsync(Machine)).Blocks;
            if (GrowingSize().Replace(blocks, "") != GrowingSize().Replace(before.Blocks, ""))
                throw new ViolationException(Promise.Leftover, $"{after}: the block graph was {before.Blocks}\nand is {blocks}");
            return;
        }

        for (var end = DateTime.UtcNow + Patience; ; await Task.Delay(100))
        {
            var left = await LeftAsync();
            if (left.Count == 0)
                return;
            if (DateTime.UtcNow > end)
                throw new ViolationException(Promise.Leftover, $"after {after}: left in QEMU: {string.Join("; ", left)}");
        }
    }

    public ValueTask DisposeAsync() => Machine.DisposeAsync();

    private async Task<IReadOnlyList<string>> LeftAsync()
    {
        List<string> left = [];
        var now = await ProcessFingerprint.TakeAsync(Machine);
        if (now.TracerPid != 0)
            left.Add($"tracer {now.TracerPid}");
        if (now.UserfaultVmas != 0)
            left.Add($"{now.UserfaultVmas} mappings under userfaultfd");
        left.AddRange(now.Items.Where(i => IsOurs(i) && !(QemuKeepsDevice && i == "descriptor /dev/userfaultfd")));
        return left;
    }

    /// <summary>
    /// QEMU's own engine keeps the userfaultfd device open, and closes descriptor 0, its standard input, when it is cancelled before it has
    /// made a userfaultfd (ram_write_tracking_stop()).
    /// </summary>
    private bool IsQemusOwn(string difference) =>
        QemuKeepsDevice && difference is "new: descriptor /dev/userfaultfd" or "gone: descriptor /dev/null";

    /// <summary>
    /// A QEMU with a paused guest keeps the descriptors that it received until the guest runs again (monitor_fdset_cleanup): the check
    /// looks for them then.
    /// </summary>
    private bool IsOurs(string item)
    {
        if (item.StartsWith("export", StringComparison.Ordinal) || item.StartsWith("migration capability", StringComparison.Ordinal))
            return true;
        if (item.StartsWith("fdset", StringComparison.Ordinal) || item.StartsWith("descriptor", StringComparison.Ordinal))
        {
            return Watch.Runs
                && (
                    item.StartsWith("fdset", StringComparison.Ordinal)
                    || item.Contains("userfaultfd", StringComparison.Ordinal)
                    || item.Contains("bgsnap-instant", StringComparison.Ordinal)
                );
        }

        return item.Contains("agent-", StringComparison.Ordinal);
    }

    /// <summary>The size of a file that grows with a guest's writes: a qcow2 image.</summary>
    [GeneratedRegex("\"virtual-size\":[0-9]+,?")]
    private static partial Regex GrowingSize();
}
