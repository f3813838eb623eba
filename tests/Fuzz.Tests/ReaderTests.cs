using System.Globalization;
using Bgsnap.Fuzz.Engine;
using Bgsnap.Fuzz.Readers;
using Xunit.Abstractions;

namespace Bgsnap.Fuzz;

/// <summary>
/// Every reader of foreign bytes keeps its promises on its corpus and on a number of mutations of it. The seed is the same in every run, so
/// that a test that fails fails again; <c>FUZZ_SEED</c> gives another, and <c>make fuzz</c> goes on for minutes.
/// </summary>
public sealed class ReaderTests(ITestOutputHelper output)
{
    private static readonly ulong Seed = Environment.GetEnvironmentVariable("FUZZ_SEED") is { Length: > 0 } text
        ? ulong.Parse(text, CultureInfo.InvariantCulture)
        : 20_260_801;

    public static TheoryData<string> Readers => [.. Targets.Names];

    [Theory]
    [MemberData(nameof(Readers))]
    public void A_reader_keeps_its_promises(string name)
    {
        output.WriteLine($"seed {Seed}");
        using FuzzTarget target = Targets.Make(name);
        List<string> findings = [];
        FuzzLoop loop = new(target, Seed, Found);

        long corpus = Corpus.Read(Corpus.Folder, name).Count;
        FuzzRun run = loop.Run(Corpus.Read(Corpus.Folder, name).Select(c => c.Input), done =>
            done < corpus + target.Mutations && findings.Count < 5
        );

        output.WriteLine($"{run.Executions} executions");
        Assert.True(findings.Count == 0, string.Join("\n", findings));

        void Found(byte[] input, Finding finding)
        {
            string kept = Corpus.Keep(Path.GetTempPath(), $"bgsnap-findings-{name}", finding.Kind, input);
            if (finding.Kind == "loop")
                Environment.FailFast($"reader {name}, seed {Seed}: {finding.Message}; input in {kept}");
            findings.Add($"{finding.Kind}: {finding.Message} (seed {Seed}, input in {kept})");
        }
    }

    /// <summary>A sample that is refused would leave everything behind its first check unread.</summary>
    [Theory]
    [MemberData(nameof(Readers))]
    public void A_reader_takes_its_first_sample(string name)
    {
        using FuzzTarget target = Targets.Make(name);
        target.Patience = TimeSpan.FromMinutes(1);

        target.Read(target.Samples().First());
    }
}
