using Bgsnap.SnapshotFormat.Qcow2;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tests.Disks;

/// <summary>Disks and qcow2 files for tests.</summary>
internal static unsafe class DiskSamples
{
    public const int Cluster = 65536;

    /// <summary>A disk with random runs of random bytes, which begin and end anywhere; some runs are written zeros.</summary>
    public static byte[] RandomDisk(int size, int seed)
    {
        byte[] disk = new byte[size];
        var random = new Random(seed);
        for (int i = 0; i < size / (4 * Cluster) + 2 && size > 0; i++)
        {
            int at = random.Next(size);
            random.NextBytes(disk.AsSpan(at, Math.Min(random.Next(3 * Cluster), size - at)));
        }
        return disk;
    }

    /// <summary>Writes a qcow2 file in pieces of random length.</summary>
    public static (long Stored, long Data) WriteQcow2(string path, byte[] disk, int seed = 1)
    {
        using SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite);
        using Qcow2Writer writer = new(file, path, disk.Length);
        var random = new Random(seed);
        fixed (byte* p = disk)
        {
            for (int at = 0, length; at < disk.Length; at += length)
            {
                length = Math.Min(random.Next(1, 40) * Cluster, disk.Length - at);
                if (disk.AsSpan(at, length).ContainsAnyExcept((byte)0))
                    writer.Write(at, p + at, length);
            }
        }
        return (writer.Finish(), writer.DataBytes);
    }

    /// <summary>Reads a whole disk in pieces that begin and end anywhere.</summary>
    public static byte[] ReadQcow2(string path, int seed = 1)
    {
        using SafeFileHandle file = File.OpenHandle(path);
        Qcow2Reader reader = Qcow2Reader.Open(file, RandomAccess.GetLength(file), path);
        byte[] disk = new byte[reader.VirtualSize];
        var random = new Random(seed);
        for (int at = 0, length; at < disk.Length; at += length)
        {
            length = Math.Min(random.Next(1, 5 * Cluster), disk.Length - at);
            reader.Read(at, disk.AsSpan(at, length));
        }
        return disk;
    }

    /// <summary>Checks a disk's file as verify does.</summary>
    public static long Check(string path)
    {
        using SafeFileHandle file = File.OpenHandle(path);
        return Qcow2Check.Run(Qcow2Reader.Open(file, RandomAccess.GetLength(file), path));
    }

    /// <summary>The bytes of a disk's clusters that are not all zero.</summary>
    public static long DataBytes(byte[] disk) =>
        Enumerable
            .Range(0, (disk.Length + Cluster - 1) / Cluster)
            .Count(c => disk.AsSpan(c * Cluster, Math.Min(Cluster, disk.Length - (c * Cluster))).ContainsAnyExcept((byte)0))
        * (long)Cluster;
}
