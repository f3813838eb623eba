using System.CommandLine;
using System.Diagnostics;
using Bgsnap.Engine.Restore;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.SnapshotFormat.Streams;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>export</c>.</summary>
internal static class RestoreCommands
{
    internal static Command Export()
    {
        Argument<string> dir = SnapshotCommands.Directory();
        Option<string> output = new("--output", "-o")
        {
            Required = true,
            HelpName = "FILE|-",
            Description = "The file, or - for standard output (not for a disk)",
        };
        Option<string?> disk = new("--disk")
        {
            HelpName = "NAME",
            Description = "Write this disk as an image instead of memory and devices",
        };
        Option<string> format = new("--format") { HelpName = "raw|qcow2", Description = "Format of the disk's image (default: qcow2)" };
        format.AcceptOnlyFromAmong("raw", "qcow2");
        Command command = new(
            "export",
            "Write a snapshot as a migration stream that an unchanged QEMU loads (-incoming \"exec:cat FILE\"), or "
                + "one of its disks as an image."
        )
        {
            dir,
            output,
            disk,
            format,
        };
        command.Check(r =>
        {
            if (r.GetResult(format) is not null && r.GetValue(disk) is null)
                r.AddError("--format applies to a disk's image: name a disk with --disk");
        });
        command.SetAction(parsed =>
            Guard(cancel =>
            {
                if (parsed.GetValue(disk) is { } name)
                {
                    using Progress bar = new();
                    DiskExport.Run(
                        parsed.GetValue(dir)!,
                        name,
                        parsed.GetValue(output)!,
                        parsed.GetValue(format) ?? "qcow2",
                        bar.Show,
                        cancel
                    );
                }
                else
                {
                    Export(parsed.GetValue(dir)!, parsed.GetValue(output)!, cancel);
                }
            })
        );
        return command;
    }

    private static void Export(string dir, string output, CancellationToken cancel)
    {
        using SnapshotStream stream = SnapshotStream.Open(SnapshotCommands.Existing(dir));
        using Progress bar = new();
        if (output == "-")
        {
            using SafeFileHandle standard = new(1, ownsHandle: false);
            _ = stream.Write(standard, progress: null, cancel);
            return;
        }
        PartialFile.Write(output, file => _ = stream.Write(file, bar.Show, cancel));
    }

    private static int Guard(Action<CancellationToken> body)
    {
        using CancellationTokenSource cancel = new();
        using EndSignals signals = new(cancel.Cancel);
        try
        {
            body(cancel.Token);
            return ExitCode.Success;
        }
        catch (Exception e)
        {
            return Failure.Report(e, json: false);
        }
    }

    /// <summary>Shows one line on a terminal, and nothing elsewhere.</summary>
    private sealed class Progress : IDisposable
    {
        private readonly long _began = Stopwatch.GetTimestamp();
        private long _shownAt;

        internal void Show(RamProgress p)
        {
            if (Console.IsErrorRedirected || Environment.TickCount64 - _shownAt < 100 || p.TotalBytes == 0)
                return;
            _shownAt = Environment.TickCount64;
            double seconds = Stopwatch.GetElapsedTime(_began).TotalSeconds;
            Console.Error.Write(ProgressBar.Text(100.0 * p.SentBytes / p.TotalBytes, p.SentBytes / seconds));
        }

        public void Dispose()
        {
            if (_shownAt != 0)
                Console.Error.WriteLine();
            _shownAt = 0;
        }
    }
}
