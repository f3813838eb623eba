using Bgsnap.Linux;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.Engine.Capture;

/// <summary>Determines the kind of each cluster: huge, small, or never touched.</summary>
/// <remarks>
/// All of RAM is scanned once while the guest runs. In the stop window only the clusters that were absent are scanned again, which walks
/// empty page tables and costs next to nothing, however large the guest.
/// </remarks>
internal sealed class PopulationScan : IDisposable
{
    private readonly GuestRam _ram;
    private readonly RamReader _reader;
    private readonly Pagemap _pagemap;
    private readonly byte[] _scratch = new byte[GuestRam.ClusterSize];
    private bool _fillHoles;

    internal PopulationScan(GuestRam ram, RamReader reader, ProcessEntry process) =>
        (_ram, _reader, _pagemap) = (ram, reader, Pagemap.Open(process));

    /// <summary>
    /// For a kernel that cannot protect missing pages (before 6.4): reads each missing page in a cluster of private memory once. The kernel
    /// maps its zero page there, and that can be protected. File pages need nothing: markers protect them.
    /// </summary>
    internal void FillHoles() => _fillHoles = true;

    /// <summary>Classifies every cluster.</summary>
    internal void ScanAll()
    {
        foreach (GuestRam.Block b in _ram.Blocks)
        {
            ClusterKind all = b.Ram.Kind switch
            {
                RamKind.SharedHugetlb or RamKind.PrivateHugetlb => ClusterKind.Huge,
                RamKind.PrivateMemory => ClusterKind.Small,
                _ => ClusterKind.Absent,
            };
            for (long c = b.FirstCluster; c < b.FirstCluster + b.Clusters; c++)
                _ram.SetKind(c, all);
            if (all == ClusterKind.Absent)
                Classify(b, b.Start, b.End, null);
            for (long c = b.FirstCluster; _fillHoles && c < b.FirstCluster + b.Clusters; c++)
                Fill(b, c);
        }
    }

    /// <summary>Scans the absent clusters again; classifies and reports those that have been populated since.</summary>
    /// <param name="appeared">Called with each such cluster.</param>
    internal void Rescan(Action<GuestRam.Block, long> appeared)
    {
        foreach (GuestRam.Block b in _ram.Blocks)
        {
            long end = b.FirstCluster + b.Clusters;
            for (long c = b.FirstCluster; c < end; c++)
            {
                if (_ram.Kind(c) != ClusterKind.Absent)
                    continue;
                long first = c;
                while (c + 1 < end && _ram.Kind(c + 1) == ClusterKind.Absent)
                    c++;
                Classify(b, b.ClusterStart(first), b.ClusterEnd(c), appeared);
            }
        }
    }

    private void Classify(GuestRam.Block b, ulong start, ulong end, Action<GuestRam.Block, long>? appeared)
    {
        if (b.Ram.Kind == RamKind.SharedMemory)
            _reader.VisitData(b, start, end, (from, to) => Mark(b, from, to, huge: false, appeared));
        else
            _pagemap.Scan(start, end, (from, to, huge) => Mark(b, from, to, huge, appeared));
    }

    private void Mark(GuestRam.Block b, ulong from, ulong to, bool huge, Action<GuestRam.Block, long>? appeared)
    {
        long first = b.FirstCluster + (long)((from - b.Start) / GuestRam.ClusterSize);
        long last = b.FirstCluster + (long)((to - 1 - b.Start) / GuestRam.ClusterSize);
        for (long c = first; c <= last; c++)
        {
            bool whole = from <= b.ClusterStart(c) && to >= b.ClusterStart(c) + GuestRam.ClusterSize;
            // A kernel that does not show what is huge: treat an aligned, whole cluster of anonymous memory as huge. If it is not, a
            // waiting writer pays with a longer copy; if it is, the huge page stays whole.
            bool isHuge = (huge || !_pagemap.SeesHugePages && b.Ram.Kind == RamKind.Anonymous) && whole && b.IsClusterAligned;
            bool isNew = _ram.Kind(c) == ClusterKind.Absent;
            _ram.SetKind(c, isHuge ? ClusterKind.Huge : ClusterKind.Small);
            if (!isNew || appeared is null)
                continue;
            Fill(b, c);
            appeared(b, c);
        }
    }

    private unsafe void Fill(GuestRam.Block b, long cluster)
    {
        if (!_fillHoles || b.Ram.IsReadThroughFile || b.Ram.IsHugetlb || _ram.Kind(cluster) != ClusterKind.Small)
            return;
        fixed (byte* scratch = _scratch)
            _reader.Read(b, b.ClusterStart(cluster), scratch, (int)(b.ClusterEnd(cluster) - b.ClusterStart(cluster)));
    }

    /// <inheritdoc/>
    public void Dispose() => _pagemap.Dispose();
}
