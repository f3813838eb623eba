using System.CommandLine;
using System.Globalization;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>inspect</c> and <c>verify</c>: show a snapshot, and check that it is complete and undamaged.</summary>
internal static class SnapshotCommands
{
    internal static Argument<string> Directory() => new("DIR") { Description = "The snapshot's directory" };

    /// <exception cref="DirectoryNotFoundException">The directory does not exist.</exception>
    internal static string Existing(string dir)
    {
        if (!System.IO.Directory.Exists(dir))
            throw new DirectoryNotFoundException($"there is no snapshot {dir}: no such directory");
        // If a volume is not mounted, its directory exists but is empty.
        if (!System.IO.Directory.EnumerateFileSystemEntries(dir).Any())
            throw new DirectoryNotFoundException($"there is no snapshot {dir}: the directory is empty; is its volume mounted?");
        // A damaged snapshot may lack one of these files.
        string[] files = [FormatV1.ManifestFileName, FormatV1.MemoryFileName, FormatV1.DeviceStateFileName];
        return files.Any(f => File.Exists(System.IO.Path.Join(dir, f)))
            ? dir
            : throw new DirectoryNotFoundException($"{dir} is not a snapshot: it has none of the files {string.Join(", ", files)}");
    }

    internal static Command Inspect()
    {
        Argument<string> dir = Directory();
        Option<bool> json = new("--json") { Description = "Print the stored manifest" };
        Option<bool> xml = new("--domain-xml")
        {
            Description = "Print libvirt's domain XML of the machine (of a snapshot that was taken through libvirt)",
        };
        Option<bool> objects = new("--objects") { Description = "Print the VM's Kubernetes objects (of a KubeVirt VM's snapshot)" };
        Command command = new("inspect", "Describe a snapshot, without reading its memory.") { dir, json, xml, objects };
        command.Check(parsed =>
        {
            if (new[] { json, xml, objects }.Count(o => parsed.GetValue(o)) > 1)
                parsed.AddError("--json, --domain-xml and --objects exclude each other");
        });
        command.SetAction(parsed =>
        {
            bool asJson = parsed.GetValue(json);
            try
            {
                using SnapshotDirectory snapshot = SnapshotDirectory.Open(Existing(parsed.GetValue(dir)!));
                if (parsed.GetValue(xml))
                    return Print(snapshot.ReadDomainXml(), "was not taken through libvirt, and has no domain XML");
                if (parsed.GetValue(objects))
                    return Print(snapshot.ReadObjects(), "was not taken of a KubeVirt VM, and has no Kubernetes objects");
                using PageLogReader log = snapshot.OpenMemory();
                if (asJson)
                    Console.Out.Write(File.ReadAllText(Path.Join(snapshot.Path, FormatV1.ManifestFileName)));
                else
                    Show(snapshot.Manifest);
                return ExitCode.Success;
            }
            catch (Exception e)
            {
                return Failure.Report(e, asJson);
            }
        });
        return command;
    }

    internal static Command Verify()
    {
        Argument<string> dir = Directory();
        Option<bool> json = new("--json") { Description = "Print the problems as one JSON object per line" };
        Command command = new("verify", "Read a whole snapshot and check every checksum and structure.") { dir, json };
        command.SetAction(parsed =>
        {
            bool asJson = parsed.GetValue(json);
            try
            {
                VerifyReport report = SnapshotVerifier.Verify(Existing(parsed.GetValue(dir)!));
                foreach (VerifyProblem p in report.Problems)
                    _ = Failure.Report(new ErrorLine("problem", Reasons.SnapshotCorrupt, p.ToString(), ExitCode.Corrupt), asJson);
                if (report.ProblemCount > report.Problems.Count)
                    Console.Error.WriteLine($"… and {report.ProblemCount - report.Problems.Count} more");
                foreach (string file in report.Foreign)
                    Console.Error.WriteLine(Printable($"note: {file} is not part of the snapshot"));
                if (!report.IsSound)
                    return ExitCode.Corrupt;
                if (!asJson)
                    Console.Out.WriteLine(
                        $"sound: {report.GoodGranules} granules, {report.GoodDisks} disks, {Quantity.FormatSize(report.BytesRead)} read"
                    );
                return ExitCode.Success;
            }
            catch (Exception e)
            {
                return Failure.Report(e, asJson);
            }
        });
        return command;
    }

    // Writes the bytes unchanged, like --json: for a program or a file.
    private static int Print(byte[]? bytes, string otherwise)
    {
        if (bytes is null)
        {
            Console.Error.WriteLine($"bgsnap-agent: the snapshot {otherwise}");
            return ExitCode.Refused;
        }
        using Stream output = Console.OpenStandardOutput();
        output.Write(bytes);
        return ExitCode.Success;
    }

    private static void Show(Manifest m)
    {
        Row("Name", m.Name);
        Row("Id", m.Id.ToString());
        Row("Point in time", m.PointInTime.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture));
        Row("Created by", m.CreatedBy);
        Row("VM", $"{m.Source.VmName} {m.Source.Uuid}".Trim());
        Row("Machine", $"{m.Machine.Type}, QEMU {m.Machine.QemuVersion}");
        Row("Engine", $"{m.Capture.Engine} ({m.Capture.EngineReason})");
        Row("Compression", m.Capture.Compression);
        Row("Downtime", SummaryText.Downtime(m.Capture.DowntimeMicroseconds, m.Capture.StopWindow));
        Row("Protection window", Quantity.FormatTime(m.Capture.ProtectionWindowMicroseconds));
        Row("RAM", $"{Quantity.FormatSize(m.Ram.TotalBytes)}, {m.Ram.StoredPages} pages stored, {m.Ram.ZeroPages} zero");
        foreach (ManifestRamBlock b in m.Ram.Blocks)
            Row("  " + b.Name, $"{Quantity.FormatSize(b.UsedLength)} {b.Kind}");
        if (m.Capture.DiskMethod is { } method)
            Row("Disks", m.Capture.DiskMethodReason is { } why ? $"{method} ({why})" : method);
        if (m.Capture.Quiesce is { } quiesce)
            Row("Quiesce", quiesce);
        Row("Guest afterwards", m.Capture.Paused ? "paused, as it was before" : m.Capture.After);
        if (m.Disks.Count > 0)
        {
            foreach (string line in DiskTable.Lines(m.Disks))
                Console.Out.WriteLine(Printable(line));
        }
        foreach (ManifestFile f in m.Files)
            Row("File " + f.Name, $"{Quantity.FormatSize(f.Size)} {f.Checksum}");
        foreach (ManifestTimelineEntry t in m.Capture.Timeline)
            Row("At " + t.Name, Quantity.FormatTime(t.OffsetMicroseconds));
    }

    private static void Row(string name, string value) => Console.Out.WriteLine(Printable($"{name, -28} {value}"));

    // The author of the file must not be able to control the terminal of its reader.
    private static string Printable(string line) => string.Concat(line.Select(c => char.IsControl(c) ? '\ufffd' : c));
}
