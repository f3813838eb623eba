using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>A foreign full backup of a disk, which runs beside captures and is judged like them.</summary>
internal sealed class OtherBackup
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private readonly VirtualMachine _vm;
    private readonly string _job;
    private readonly string _image;
    private readonly TestDisk _disk;

    private OtherBackup(VirtualMachine vm, string job, string image, TestDisk disk) => (_vm, _job, _image, _disk) = (vm, job, image, disk);

    /// <summary>Starts a backup of the machine's first disk; null: QEMU refused.</summary>
    public static async Task<OtherBackup?> BeginAsync(VirtualMachine vm, int number)
    {
        var disk = vm.Options.Disks[0];
        var job = Invariant($"others-{number}");
        var image = Path.Combine(vm.Folder, job + ".img");
        using (var file = File.OpenHandle(image, FileMode.Create, FileAccess.Write))
            RandomAccess.SetLength(file, (long)disk.MiB << 20);
        File.SetUnixFileMode(image, (UnixFileMode)0b110_110_110);
        try
        {
            await vm.Qmp.ExecuteAsync(
                "drive-backup",
                new JsonObject
                {
                    ["device"] = disk.Arguments == DiskArguments.Drive ? disk.Name : DiskCommandLine.NodeOf(disk, 1),
                    ["job-id"] = job,
                    ["target"] = image,
                    ["format"] = "raw",
                    ["mode"] = "existing",
                    ["sync"] = "full",
                    ["speed"] = 16 << 20,
                }
            );
            return new OtherBackup(vm, job, image, disk);
        }
        catch (QmpErrorException)
        {
            File.Delete(image);
            return null;
        }
    }

    /// <summary>Waits until it succeeds, and checks its copy: the disk at the instant that it began.</summary>
    public async Task EndsWellAsync()
    {
        try
        {
            await _vm.Qmp.ExecuteAsync("block-job-set-speed", new() { ["device"] = _job, ["speed"] = 0 });
        }
        catch (QmpErrorException)
        {
            // It has ended.
        }

        for (var end = DateTime.UtcNow + Patience; ; await Task.Delay(50))
        {
            var ended = _vm.Qmp.Events.FirstOrDefault(e =>
                e.Name is "BLOCK_JOB_COMPLETED" or "BLOCK_JOB_CANCELLED" && e.Data.GetProperty("device").GetString() == _job
            );
            if (ended is not null)
            {
                if (ended.Name != "BLOCK_JOB_COMPLETED" || ended.Data.TryGetProperty("error", out _))
                    throw new ViolationException(Promise.OthersHarmed, $"another backup ended with {ended.Name} {ended.Data}");
                break;
            }

            if (DateTime.UtcNow > end)
                throw new ViolationException(Promise.OthersHarmed, "another backup does not end");
        }

        if (_vm.Options.Disks.Count == 1 && OneInstant() is { } problem)
            throw new ViolationException(Promise.OthersHarmed, $"another backup is not of one instant: {problem}");
        File.Delete(_image);
    }

    /// <summary>With one disk, the greatest number on the image determines what each slot must hold.</summary>
    private string? OneInstant()
    {
        const int Slots = 128,
            StrideKiB = 64;
        long newest = 0;
        var block = new byte[DiskScanner.BlockSize];
        using (var image = File.OpenHandle(_image))
        {
            for (var slot = 0; slot < Slots; slot++)
            {
                _ = RandomAccess.Read(image, block, (long)slot * StrideKiB * 1024);
                newest = Math.Max(newest, BitConverter.ToInt64(block, 8));
            }
        }

        var verdict = DiskScanner.Judge(new DiskRecord(false, 1, Slots, StrideKiB, newest, newest), [_image]);
        return verdict.Agrees ? null : $"{_disk}: {verdict}";
    }
}
