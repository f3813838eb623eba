using System.Diagnostics;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Tests.Disks;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tests.Store;

[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class SnapshotDirectoryTests : IDisposable
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private readonly TempDirectory _temp = new();

    public void Dispose() => _temp.Dispose();

    [Fact]
    public void A_committed_snapshot_is_whole_private_and_sound()
    {
        List<GuestBlock> guest = GuestSnapshot.Small();
        Manifest written = GuestSnapshot.Write(_temp.Sub("snap"), guest, PageCompression.Zstd);

        Assert.Equal(["snap"], Directory.GetFileSystemEntries(_temp.Path).Select(Path.GetFileName));
        Assert.Equal(OwnerOnly | UnixFileMode.UserExecute, File.GetUnixFileMode(_temp.Sub("snap")));
        string[] files = [.. Directory.GetFiles(_temp.Sub("snap")).Order(StringComparer.Ordinal)];
        Assert.Equal(["device-state", "memory", "snapshot.json"], files.Select(Path.GetFileName));
        Assert.All(files, f => Assert.Equal(OwnerOnly, File.GetUnixFileMode(f)));

        using SnapshotDirectory snapshot = SnapshotDirectory.Open(_temp.Sub("snap"));
        Assert.Equal(written.Id, snapshot.Manifest.Id);
        Assert.Equal(written.PointInTime, snapshot.Manifest.PointInTime);
        Assert.Equal(written.Files, snapshot.Manifest.Files);
        Assert.Equal(700, snapshot.ReadDeviceState().Length);
        Assert.Equal(File.ReadAllBytes(snapshot.DeviceStatePath), snapshot.ReadDeviceState());
        using PageLogReader log = snapshot.OpenMemory();
        GuestSnapshot.AssertSame(log, guest);

        VerifyReport report = SnapshotVerifier.Verify(_temp.Sub("snap"));
        Assert.Empty(report.Problems);
        Assert.True(report.IsSound);
        Assert.Equal(files.Sum(f => new FileInfo(f).Length), report.BytesRead);
    }

    [Fact]
    public void Disks_are_listed_with_their_checksum()
    {
        using (SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("snap")))
        {
            Manifest manifest = GuestSnapshot.Fill(writer, GuestSnapshot.Small(), PageCompression.Lz4);
            (long stored, long data) = DiskSamples.WriteQcow2(_temp.Sub("vda"), DiskSamples.RandomDisk(1 << 20, 1));
            using (SafeFileHandle disk = writer.CreateFile("disks/vda.qcow2"))
                RandomAccess.Write(disk, File.ReadAllBytes(_temp.Sub("vda")), 0);
            using (SafeFileHandle disk = writer.CreateFile("disks/vdb.qcow2"))
                RandomAccess.Write(disk, new byte[10], 0);
            manifest = writer.Commit(
                manifest with
                {
                    Disks =
                    [
                        new ManifestDisk
                        {
                            Name = "vda",
                            File = "disks/vda.qcow2",
                            Format = "qcow2",
                            VirtualSize = 1 << 20,
                            DataBytes = data,
                            StoredBytes = stored,
                        },
                    ],
                }
            );
            Assert.Equal(["device-state", "disks/vda.qcow2", "disks/vdb.qcow2", "memory"], manifest.Files.Select(f => f.Name));
        }
        VerifyReport report = SnapshotVerifier.Verify(_temp.Sub("snap"));
        Assert.Empty(report.Problems);
        Assert.Equal(1, report.GoodDisks);
        File.AppendAllText(_temp.Sub("snap/disks/vdb.qcow2"), "x");
        VerifyProblem problem = Assert.Single(SnapshotVerifier.Verify(_temp.Sub("snap")).Problems);
        Assert.Equal(("disks/vdb.qcow2", 10L), (problem.File, problem.Offset));
    }

    [Theory]
    [InlineData(1 << 20, 0, "another disk's data")]
    [InlineData(2 << 20, 1, "another size")]
    [InlineData(1 << 20, -1, "not a qcow2 file")]
    public void A_disk_that_is_not_what_the_manifest_says_is_found_although_its_checksum_is_right(
        int virtualSize,
        int dataClusters,
        string what
    )
    {
        using (SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("snap")))
        {
            Manifest manifest = GuestSnapshot.Fill(writer, GuestSnapshot.Small(), PageCompression.Lz4);
            byte[] disk = new byte[1 << 20];
            disk[0] = 1;
            (long stored, _) = DiskSamples.WriteQcow2(_temp.Sub("vda"), disk);
            byte[] bytes = File.ReadAllBytes(_temp.Sub("vda"));
            if (dataClusters < 0)
                bytes[0] ^= 1;
            using (SafeFileHandle file = writer.CreateFile("disks/vda.qcow2"))
                RandomAccess.Write(file, bytes, 0);
            _ = writer.Commit(
                manifest with
                {
                    Disks =
                    [
                        new ManifestDisk
                        {
                            Name = "vda",
                            File = "disks/vda.qcow2",
                            Format = "qcow2",
                            VirtualSize = virtualSize,
                            DataBytes = Math.Abs(dataClusters) * 65536,
                            StoredBytes = stored,
                        },
                    ],
                }
            );
        }
        VerifyReport report = SnapshotVerifier.Verify(_temp.Sub("snap"));
        Assert.Equal("disks/vda.qcow2", Assert.Single(report.Problems).File);
        Assert.False(report.IsSound, what);
    }

    [Fact]
    public void Nothing_is_there_without_a_commit()
    {
        using (SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("snap")))
        {
            GuestSnapshot.Fill(writer, GuestSnapshot.Small(), PageCompression.None);
            writer.CreateFile("disks/vda.qcow2").Dispose();
            Assert.True(File.Exists(Path.Combine(writer.Path, "memory")));
            Assert.False(Directory.Exists(writer.FinalPath));
        }
        Assert.Empty(Directory.GetFileSystemEntries(_temp.Path));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_existing_output_is_refused_before_anything_is_written(bool directory)
    {
        if (directory)
            Directory.CreateDirectory(_temp.Sub("snap"));
        else
            File.WriteAllText(_temp.Sub("snap"), "precious");
        LinuxException e = Assert.Throws<LinuxException>(() => SnapshotDirectoryWriter.Begin(_temp.Sub("snap")));
        Assert.Equal(17, e.Errno);
        Assert.Single(Directory.GetFileSystemEntries(_temp.Path));
    }

    [Fact]
    public void A_name_taken_meanwhile_is_not_replaced()
    {
        using (SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("snap")))
        {
            Manifest manifest = GuestSnapshot.Fill(writer, GuestSnapshot.Small(), PageCompression.None);
            Directory.CreateDirectory(_temp.Sub("snap"));
            Assert.Equal(17, Assert.Throws<LinuxException>(() => writer.Commit(manifest)).Errno);
        }
        Assert.Equal(["snap"], Directory.GetFileSystemEntries(_temp.Path).Select(Path.GetFileName));
        Assert.Empty(Directory.GetFileSystemEntries(_temp.Sub("snap")));
    }

    [Fact]
    public void A_log_that_is_not_the_manifests_is_not_committed()
    {
        using (SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("snap")))
        {
            Manifest manifest = GuestSnapshot.Fill(writer, GuestSnapshot.Small(), PageCompression.None);
            Assert.Throws<SnapshotCorruptException>(() => writer.Commit(manifest with { Ram = manifest.Ram with { StoredPages = 1 } }));
        }
        Assert.Empty(Directory.GetFileSystemEntries(_temp.Path));
    }

    [Fact]
    public void An_unfinished_log_is_not_committed()
    {
        using SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("snap"));
        writer.CreateMemory([new RamBlockLayout("a", 65536, 4096)], PageCompression.None, Guid.NewGuid()).Dispose();
        writer.CreateFile("device-state").Dispose();
        Assert.Throws<SnapshotCorruptException>(() => writer.Commit(GuestSnapshot.SampleManifest(Guid.NewGuid())));
    }

    [Fact]
    public void A_missing_device_state_is_not_committed()
    {
        using SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("snap"));
        Manifest manifest = GuestSnapshot.Fill(writer, GuestSnapshot.Small(), PageCompression.None);
        File.Delete(Path.Combine(writer.Path, "device-state"));
        Assert.Throws<InvalidOperationException>(() => writer.Commit(manifest));
    }

    [Fact]
    public void The_next_capture_sweeps_what_a_dead_one_left_and_spares_the_living()
    {
        string boot = File.ReadAllText("/proc/sys/kernel/random/boot_id")[..8];
        string dead = _temp.Sub($".old.partial-{boot}-0123456789abcdef");
        Directory.CreateDirectory(Path.Combine(dead, "disks"));
        File.WriteAllText(Path.Combine(dead, "memory"), "x");
        File.WriteAllText(Path.Combine(dead, "disks", "vda.qcow2"), "x");
        // The deletion must not follow a link in it.
        File.WriteAllText(_temp.Sub("precious"), "x");
        Directory.CreateDirectory(_temp.Sub("dir"));
        File.WriteAllText(_temp.Sub("dir/precious"), "x");
        File.CreateSymbolicLink(Path.Combine(dead, "link"), _temp.Sub("precious"));
        Directory.CreateSymbolicLink(Path.Combine(dead, "dirlink"), _temp.Sub("dir"));
        // From another node: last changed two hours ago, or just now.
        string silent = Directory.CreateDirectory(_temp.Sub(".a.partial-00000000-0123456789abcdef")).FullName;
        Directory.SetLastWriteTimeUtc(silent, DateTime.UtcNow.AddHours(-2));
        string busy = Directory.CreateDirectory(_temp.Sub(".b.partial-00000000-0123456789abcdef")).FullName;
        File.WriteAllText(Path.Combine(busy, "memory"), "x");
        Directory.SetLastWriteTimeUtc(busy, DateTime.UtcNow.AddHours(-2));
        string other = Directory.CreateDirectory(_temp.Sub(".b.partial-note")).FullName;

        using SnapshotDirectoryWriter living = SnapshotDirectoryWriter.Begin(_temp.Sub("one"));
        using SnapshotDirectoryWriter next = SnapshotDirectoryWriter.Begin(_temp.Sub("two"));

        Assert.Equal([Path.GetFileName(silent), Path.GetFileName(dead)], living.SweptLeftovers.Order(StringComparer.Ordinal));
        Assert.Empty(next.SweptLeftovers);
        Assert.True(Directory.Exists(living.Path));
        Assert.True(Directory.Exists(busy));
        Assert.True(Directory.Exists(other));
        Assert.True(File.Exists(_temp.Sub("precious")));
        Assert.True(File.Exists(_temp.Sub("dir/precious")));
    }

    [Fact]
    public void A_partial_directory_locked_by_another_process_stays()
    {
        string boot = File.ReadAllText("/proc/sys/kernel/random/boot_id")[..8];
        string held = Directory.CreateDirectory(_temp.Sub($".old.partial-{boot}-0123456789abcdef")).FullName;
        using Process owner = Process.Start(
            new ProcessStartInfo("flock", ["-x", held, "sh", "-c", "echo held; read line"])
            {
                RedirectStandardOutput = true,
                RedirectStandardInput = true,
            }
        )!;
        Assert.Equal("held", owner.StandardOutput.ReadLine());
        using (SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("one")))
            Assert.Empty(writer.SweptLeftovers);
        owner.StandardInput.Close();
        owner.WaitForExit();
        Assert.Equal([Path.GetFileName(held)], SnapshotDirectoryWriter.SweepLeftovers(_temp.Path));
        Assert.Empty(Directory.GetFileSystemEntries(_temp.Path));
    }

    [Fact]
    public void Many_captures_into_one_place_do_not_sweep_each_other()
    {
        List<GuestBlock> guest = GuestSnapshot.Small();
        Parallel.For(0, 24, i => GuestSnapshot.Write(_temp.Sub($"snap-{i}"), guest, PageCompression.Lz4));
        Assert.Equal(24, Directory.GetDirectories(_temp.Path).Length);
        Assert.All(Directory.GetDirectories(_temp.Path), d => Assert.True(SnapshotVerifier.Verify(d).IsSound));
    }

    /// <summary>A sweep may lock a directory between its creation and its owner's lock; the owner must then create another one.</summary>
    [Fact]
    public void A_capture_never_keeps_a_directory_that_a_sweep_is_about_to_remove()
    {
        using CancellationTokenSource enough = new();
        Thread[] sweepers =
        [
            .. Enumerable
                .Range(0, 3)
                .Select(sweeper => new Thread(() =>
                {
                    while (!enough.IsCancellationRequested)
                        _ = SnapshotDirectoryWriter.SweepLeftovers(_temp.Path);
                })),
        ];
        foreach (Thread sweeper in sweepers)
            sweeper.Start();
        try
        {
            for (int i = 0; i < 2000; i++)
            {
                using SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("snap"));
                writer.CreateFile("device-state").Dispose();
                Assert.True(File.Exists(Path.Combine(writer.Path, "device-state")), $"swept in round {i}");
            }
        }
        finally
        {
            enough.Cancel();
            foreach (Thread sweeper in sweepers)
                sweeper.Join();
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("..")]
    [InlineData(".hidden")]
    public void Names_that_are_none_are_refused(string name) =>
        Assert.Throws<ArgumentException>(() => SnapshotDirectoryWriter.Begin(name.Length == 0 ? "" : _temp.Sub(name)));

    [Theory]
    [InlineData("../x")]
    [InlineData("/etc/x")]
    [InlineData("a/b/c")]
    [InlineData(".x")]
    [InlineData("snapshot.json")]
    public void Files_outside_the_snapshot_cannot_be_created(string name)
    {
        using SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(_temp.Sub("snap"));
        Assert.Throws<ArgumentException>(() => writer.CreateFile(name));
    }

    [Fact]
    public void A_name_too_long_or_a_parent_that_is_not_there_is_refused()
    {
        Assert.Throws<ArgumentException>(() => SnapshotDirectoryWriter.Begin(_temp.Sub(new string('x', 230))));
        using (SnapshotDirectoryWriter.Begin(_temp.Sub(new string('x', 220)) + "/")) { }
        Assert.Equal(2, Assert.Throws<LinuxException>(() => SnapshotDirectoryWriter.Begin(_temp.Sub("no/snap"))).Errno);
    }

    [Fact]
    public void A_file_of_somebody_else_is_named_and_no_damage()
    {
        string dir = _temp.Sub("snap");
        GuestSnapshot.Write(dir, GuestSnapshot.Small(), PageCompression.Lz4);
        File.WriteAllText(Path.Combine(dir, ".DS_Store"), "");

        VerifyReport report = SnapshotVerifier.Verify(dir);

        Assert.True(report.IsSound);
        Assert.Equal([".DS_Store"], report.Foreign);
    }

    [Fact]
    public void A_stray_link_or_fifo_is_reported_and_never_waited_for()
    {
        string dir = _temp.Sub("snap");
        GuestSnapshot.Write(dir, GuestSnapshot.Small(), PageCompression.Lz4);
        File.Move(Path.Combine(dir, "device-state"), _temp.Sub("elsewhere"));
        File.CreateSymbolicLink(Path.Combine(dir, "device-state"), _temp.Sub("elsewhere"));
        Assert.False(SnapshotVerifier.Verify(dir).IsSound);
        using (SnapshotDirectory snapshot = SnapshotDirectory.Open(dir))
            Assert.Throws<LinuxException>(snapshot.ReadDeviceState);
        File.Delete(Path.Combine(dir, "device-state"));

        using (Process mkfifo = Process.Start("mkfifo", [Path.Combine(dir, "device-state")]))
            mkfifo.WaitForExit();
        Assert.False(SnapshotVerifier.Verify(dir).IsSound);
        using (SnapshotDirectory snapshot = SnapshotDirectory.Open(dir))
            Assert.Throws<SnapshotCorruptException>(snapshot.ReadDeviceState);
    }

    [Fact]
    public void What_is_not_there_is_a_problem_and_no_exception()
    {
        Assert.False(SnapshotVerifier.Verify(_temp.Sub("nothing")).IsSound);
        Assert.False(SnapshotVerifier.Verify(_temp.Path).IsSound);
        Assert.Throws<LinuxException>(() => SnapshotDirectory.Open(_temp.Sub("nothing")));
    }
}
