using System.Diagnostics;
using System.Globalization;
using Bgsnap.Fuzz.Engine;
using Bgsnap.Fuzz.Readers;

namespace Bgsnap.Fuzz;

/// <summary>What `make fuzz` runs: all readers in turn, or one, for some minutes.</summary>
internal static class Program
{
    // Of the corpus in the repository, for each reader.
    private const int MostKept = 60,
        MostBytesKept = 50_000;

    /// <summary><c>instrument FILE…</c>: count edges in assemblies. <c>run MINUTES [READER] [SEED]</c>: mutate.
    /// <c>replay READER FILE…</c>: read these inputs.
    /// <c>distill FOLDER</c>: of a run's corpus, take the smallest inputs that each add an edge into the repository's.</summary>
    internal static int Main(string[] arguments) =>
        arguments switch
        {
            ["instrument", .. var files] => files.Sum(Instrument),
            ["run", var minutes, .. var rest] => Run(
                double.Parse(minutes, CultureInfo.InvariantCulture),
                rest.ElementAtOrDefault(0) ?? "",
                rest.ElementAtOrDefault(1)
            ),
            ["distill", var folder] => Distill(folder),
            ["replay", var reader, .. var files] => Replay(reader, files),
            _ => Usage(),
        };

    private static int Usage()
    {
        Console.Error.WriteLine("instrument FILE… | run MINUTES [READER] [SEED] | replay READER FILE… | distill FOLDER");
        return 2;
    }

    private static int Instrument(string file)
    {
        // A checksum's rounds are the same for every input, and counting them takes longer than all the rest.
        int types = SharpFuzz
            .Fuzzer.Instrument(file, type => !type.EndsWith(".Sha256", StringComparison.Ordinal), SharpFuzz.Options.Value)
            .Count();
        Console.WriteLine($"{types} types of {Path.GetFileName(file)} count their edges");
        return 0;
    }

    private static int Run(double minutes, string only, string? seedText)
    {
        ulong seed = seedText is { Length: > 0 } ? ulong.Parse(seedText, CultureInfo.InvariantCulture) : (ulong)Stopwatch.GetTimestamp();
        string output = Environment.GetEnvironmentVariable("FUZZ_OUT") is { Length: > 0 } o ? o : "out/fuzz";
        string[] names = only.Length > 0 ? [only] : [.. Targets.Names];
        Console.WriteLine($"seed {seed}, {names.Length} readers, {minutes / names.Length:0.##} minutes each");
        int findings = 0;
        foreach (string name in names)
            findings += RunOne(name, seed, TimeSpan.FromMinutes(minutes / names.Length), output);
        Console.WriteLine(
            findings > 0
                ? $"{findings} findings, inputs in {output}/findings; replay: FUZZ_TARGET=<reader> FUZZ_INPUT=<file> make fuzz"
                : "0 findings"
        );
        return findings > 0 ? 1 : 0;
    }

    private static int RunOne(string name, ulong seed, TimeSpan time, string output)
    {
        using FuzzTarget target = Targets.Make(name);
        HashSet<string> kinds = [];
        long began = Stopwatch.GetTimestamp();
        FuzzLoop loop = new(target, seed, Found, input => Corpus.Keep(Path.Join(output, "corpus"), name, "edge", input));
        IEnumerable<byte[]> corpus = Corpus
            .Read(Corpus.Folder, name)
            .Concat(Corpus.Read(Path.Join(output, "corpus"), name))
            .Select(c => c.Input);
        FuzzRun run = loop.Run(corpus, _ => Stopwatch.GetElapsedTime(began) < time);
        double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        Console.WriteLine(
            $"{name, -18}{run.Executions, 12} executions  {run.Executions / seconds, 9:0}/s  {run.Edges, 6} edges  {run.Kept, 5} "
                + $"kept  {kinds.Count} findings"
        );
        return kinds.Count;

        // One input for each kind of finding is enough to mend it.
        void Found(byte[] input, Finding finding)
        {
            if (!kinds.Add($"{finding.Kind} {Place(finding.Message)}") || kinds.Count > 20)
                return;
            Console.WriteLine(
                $"{name}: {finding.Kind}: {finding.Message}\n  {Corpus.Keep(Path.Join(output, "findings"), name, finding.Kind, input)}"
            );
            if (finding.Kind == "loop")
                Environment.Exit(3);
        }
    }

    // What it is and where in the agent; a promise has no place but its words.
    private static string Place(string message)
    {
        string[] lines = message.Split('\n');
        return lines[0].Split(':')[0]
            + lines.FirstOrDefault(l =>
                l.Contains(" Bgsnap.", StringComparison.Ordinal) && !l.Contains(" Bgsnap.Fuzz.", StringComparison.Ordinal)
            );
    }

    private static int Distill(string folder)
    {
        foreach (string name in Targets.Names)
        {
            using FuzzTarget target = Targets.Make(name);
            Execution execution = new(target);
            Coverage coverage = new();
            foreach (byte[] input in target.Samples().Concat(Corpus.Read(Corpus.Source(), name).Select(c => c.Input)))
                _ = IsNew(input);
            int kept = 0,
                bytes = 0;
            foreach (byte[] input in Corpus.Read(folder, name).Select(c => c.Input).OrderBy(i => i.Length))
            {
                if (kept == MostKept || bytes + input.Length > MostBytesKept || !IsNew(input))
                    continue;
                Corpus.Keep(Corpus.Source(), name, "edge", input);
                (kept, bytes) = (kept + 1, bytes + input.Length);
            }
            Console.WriteLine($"{name, -18}{kept, 4} inputs, {bytes} bytes");

            bool IsNew(byte[] input)
            {
                Coverage.Clear();
                _ = execution.Run(input);
                return coverage.IsNew();
            }
        }
        return 0;
    }

    private static int Replay(string reader, string[] files)
    {
        using FuzzTarget target = Targets.Make(reader);
        int bad = 0;
        foreach (string file in files)
        {
            Finding? finding = new Execution(target).Run(File.ReadAllBytes(file));
            Console.WriteLine($"{file}: {(finding is null ? "kept its promises" : $"{finding.Kind}: {finding.Message}")}");
            bad += finding is null ? 0 : 1;
        }
        return bad > 0 ? 1 : 0;
    }
}
