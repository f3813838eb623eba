using System.Globalization;
using Bgsnap.SnapshotFormat.Store;
using ModelCheck.Model;
using ModelCheck.Scheduling;
using Xunit.Abstractions;

namespace ModelCheck;

/// <summary>
/// The threads of a capture in many orders: a snapshot that is called whole is the memory as it was at the point in time, and the guest
/// goes on whatever happens. <c>MODEL_SCHEDULES</c> tries more of them, <c>MODEL_FIRST</c> begins with another: so a counterexample runs
/// again.
/// </summary>
public sealed class CaptureTests(ITestOutputHelper output)
{
    private static readonly int Schedules = Number("MODEL_SCHEDULES", 60),
        First = Number("MODEL_FIRST", 1);

    public static TheoryData<string> Situations => [.. Known.Keys];

    private static readonly Dictionary<string, Situation> Known = new()
    {
        ["small pages"] = new(),
        ["a huge page"] = new() { Granules = 2, IsHuge = true },
        ["discards"] = new()
        {
            Granules = 2,
            Discards = 2,
            Writers = 1,
        },
        ["discards in a huge page"] = new()
        {
            Granules = 2,
            IsHuge = true,
            Discards = 1,
            Writers = 1,
        },
        ["protection lost"] = new() { LosesProtection = true },
        ["cancelled"] = new() { IsCancelled = true, Discards = 1 },
        ["compressed"] = new() { Compression = PageCompression.Lz4, Granules = 2 },
    };

    [Theory]
    [MemberData(nameof(Situations))]
    public void A_whole_snapshot_is_true_and_the_guest_goes_on(string situation)
    {
        (int whole, int givenUp) = (CaptureModel.Whole, CaptureModel.GivenUp);

        Counterexample? found = Explorer.Sample(() => CaptureModel.Run(Known[situation]), First, Schedules);

        (whole, givenUp) = (CaptureModel.Whole - whole, CaptureModel.GivenUp - givenUp);
        output.WriteLine($"schedules {First} to {First + Schedules - 1}: {whole} snapshots whole, {givenUp} given up");
        Assert.True(found is null, found is null ? null : $"{found.Failure}\nAgain: MODEL_FIRST={found.Schedule} MODEL_SCHEDULES=1");
        // A check in which every capture gives up would prove nothing; but of one that is cancelled, sooner or later.
        Assert.True(whole > 0 != Known[situation].IsCancelled, $"{whole} snapshots were whole");
    }

    /// <summary>A discard that is accepted after the page was copied as zeroes: what the proof after the copy is for.</summary>
    [Fact]
    public void The_check_finds_zeroes_that_were_copied_after_a_discard() =>
        MustFind("in a snapshot that is called whole", Known["discards"] with { Defects = Defects.NoProof });

    [Fact]
    public void The_check_finds_a_write_that_nobody_announced() =>
        MustFind("in a snapshot that is called whole", Known["protection lost"] with { Defects = Defects.NoProof });

    [Fact]
    public void The_check_finds_a_writer_that_nobody_wakes() =>
        MustFind("nobody woke it", Known["small pages"] with { Defects = Defects.NoWake });

    private void MustFind(string what, Situation situation)
    {
        Counterexample? found = Explorer.Sample(() => CaptureModel.Run(situation), 1, 2000);

        output.WriteLine($"found in schedule {found?.Schedule}: {found?.Failure}");
        Assert.Matches(what, found?.Failure ?? "nothing was found");
    }

    private static int Number(string variable, int otherwise) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
