using Bgsnap.Qemu.Vm;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Test hook: writes every RAM block as it is in the stop window to the directory named by <c>BGSNAP_TEST_DUMP</c>, to compare the snapshot
/// with.
/// </summary>
internal static unsafe class ReferenceDump
{
    private static readonly string? Folder = Environment.GetEnvironmentVariable("BGSNAP_TEST_DUMP");

    internal static void Write(GuestRam ram, RamReader reader)
    {
        if (Folder is null)
            return;
        byte[] chunk = new byte[GuestRam.ClusterSize];
        foreach (GuestRam.Block b in ram.Blocks)
        {
            using FileStream file = File.Create(Path.Join(Folder, $"{b.Index}.ram"));
            for (long c = b.FirstCluster; c < b.FirstCluster + b.Clusters; c++)
            {
                int length = (int)(b.ClusterEnd(c) - b.ClusterStart(c));
                fixed (byte* p = chunk)
                    reader.Read(b, b.ClusterStart(c), p, length);
                file.Write(chunk, 0, length);
            }
        }
    }
}
