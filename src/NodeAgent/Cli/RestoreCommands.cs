using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Restore;
using Bgsnap.NodeAgent.Streams;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>export</c>.</summary>
internal static class RestoreCommands
{
    internal static Command Export()
    {
        Argument<string> dir = SnapshotCommands.Directory();
        Option<string> output = new("--output", "-o") { Required = true, HelpName = "FILE|-", Description = "The stream's file, or - for standard output" };
        Command command = new("export", "Write a snapshot as a migration stream that stock QEMU loads: qemu-system-x86_64 … -incoming \"exec:cat FILE\".") { dir, output };
        command.SetAction(parsed => Guard(cancel => Export(parsed.GetValue(dir)!, parsed.GetValue(output)!, cancel)));
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
        // Under another name until it is whole, so that nobody loads half a stream.
        string partial = output + ".partial";
        try
        {
            using (SafeFileHandle file = FileSyscalls.OpenAt(null, partial, FileSyscalls.O_WRONLY | FileSyscalls.O_CREAT | FileSyscalls.O_EXCL, 0x180 /* 0600: RAM holds secrets */))
            {
                _ = stream.Write(file, bar.Show, cancel);
                RandomAccess.FlushToDisk(file);
            }
            File.Move(partial, output, overwrite: true);
        }
        catch (LinuxException e) when (e.Errno == Errno.EEXIST)
        {
            throw new LinuxException($"{partial} is there already: another export is under way, or one died; remove it", e.Errno);
        }
        catch
        {
            File.Delete(partial);
            throw;
        }
    }

    private static int Guard(Action<CancellationToken> body)
    {
        using CancellationTokenSource cancel = new();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        try
        {
            body(cancel.Token);
            return ExitCode.Success;
        }
        catch (Exception e)
        {
            return Failure.Report(e, json: false);
        }

        void Stop(PosixSignalContext context)
        {
            context.Cancel = true;
            cancel.Cancel();
        }
    }

    /// <summary>One line on a terminal, nothing elsewhere.</summary>
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
            Console.Error.Write(string.Create(CultureInfo.InvariantCulture,
                $"\r\e[K{100.0 * p.SentBytes / p.TotalBytes,5:0.0} %  {p.SentBytes / seconds / (1 << 30):0.00} GiB/s"));
        }

        public void Dispose()
        {
            if (_shownAt != 0)
                Console.Error.WriteLine();
            _shownAt = 0;
        }
    }
}
