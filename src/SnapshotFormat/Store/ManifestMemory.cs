namespace Bgsnap.SnapshotFormat.Store;

/// <summary>Whether manifest and page log agree. Checked on commit, on open and by verify.</summary>
internal static class ManifestMemory
{
    public static string? Problem(Manifest manifest, PageLogHeader header, PageLogFooter footer)
    {
        ManifestRam ram = manifest.Ram;
        if (manifest.Id != header.Id)
            return $"the page log is of snapshot {header.Id}, the manifest of {manifest.Id}";
        if (ram.Blocks.Count != header.Blocks.Count)
            return $"the page log has {header.Blocks.Count} RAM blocks, the manifest {ram.Blocks.Count}";
        ulong total = 0;
        for (int i = 0; i < ram.Blocks.Count; i++)
        {
            RamBlockLayout there = header.Blocks[i];
            ManifestRamBlock here = ram.Blocks[i];
            if (here.Name != there.Name || here.UsedLength != there.UsedLength || here.PageSize != there.HostPageSize)
                return $"RAM block {i} is {there.Name}, {there.UsedLength} bytes in the page log, {here.Name}, {here.UsedLength} bytes in "
                    + "the manifest";
            total += there.UsedLength;
        }
        return
            (ram.TotalBytes, ram.StoredPages, ram.ZeroPages, ram.StoredBytes)
            != (total, footer.StoredPages, footer.ZeroPages, footer.StoredBytes)
            ? $"the manifest counts {ram.StoredPages} pages and {ram.StoredBytes} bytes stored, the page log {footer.StoredPages} "
                + $"and {footer.StoredBytes}"
            : null;
    }
}
