using System.Globalization;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.HarnessTests;

/// <summary>A machine leaves nothing behind. The number of huge pages is the host's: another machine would change it meanwhile.</summary>
[Collection(Alone.Name)]
public class DisposedMachineTests
{
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Disposing_leaves_nothing_behind(bool asInLauncher)
    {
        var options = new VirtualMachineOptions { Guest = new FirmwareGuest(), Ram = RamKind.Hugetlbfs };
        Requirements.Need(options);
        string folder;
        int pid,
            hugePages;
        await using (var vm = await VirtualMachine.StartAsync(asInLauncher ? options.AsInLauncher() : options))
        {
            (folder, pid, hugePages) = (vm.Folder, vm.Pid, await HugePagesAsync());
            Assert.Contains("qemu-system", new FileInfo($"/proc/{pid}/exe").LinkTarget, StringComparison.Ordinal);
        }

        Assert.False(Directory.Exists(folder));
        Assert.False(Directory.Exists($"/proc/{pid}"));
        Assert.Equal(hugePages - (options.MemoryMiB / 2), await HugePagesAsync());
        Assert.DoesNotContain(folder, await File.ReadAllTextAsync("/proc/mounts"), StringComparison.Ordinal);
    }

    private static async Task<int> HugePagesAsync() =>
        int.Parse(await File.ReadAllTextAsync("/proc/sys/vm/nr_hugepages"), CultureInfo.InvariantCulture);
}
