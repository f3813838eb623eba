using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests;

/// <summary>Skips a test with a reason if the host cannot run it. For [SkippableFact] and [SkippableTheory].</summary>
public static class Requirements
{
    public static void NeedRoot() => Skip.IfNot(HarnessLibc.IsRoot, "needs root");

    public static void NeedKvm() => Skip.IfNot(CanOpen("/dev/kvm"), "/dev/kvm cannot be opened");

    public static void NeedUserfaultfd() => Skip.IfNot(CanOpen("/dev/userfaultfd"), "/dev/userfaultfd cannot be opened");

    /// <summary>
    /// Checks the programs under test, which must never be skipped unnoticed: with BGSNAP_REQUIRE_ALL (as in CI) a missing one fails the
    /// test.
    /// </summary>
    public static void Need(VirtualMachineOptions options)
    {
        NeedRoot();
        if (options.Accelerator == Accelerator.Kvm)
            NeedKvm();
        if (TestFiles.Missing(options) is { } missing)
            Miss(missing);
    }

    /// <summary>Checks for a program of one of hack/deps' packages in the same way.</summary>
    public static void NeedProgram(string path)
    {
        if (!File.Exists(path))
            Miss($"{path} is missing: run hack/deps");
    }

    private static void Miss(string missing)
    {
        Assert.True(Environment.GetEnvironmentVariable("BGSNAP_REQUIRE_ALL") is null or "", missing);
        Skip.If(true, missing);
    }

    /// <summary>Starts a machine, or skips the test if the host cannot run it.</summary>
    public static Task<VirtualMachine> StartAsync(VirtualMachineOptions options)
    {
        Need(options);
        return VirtualMachine.StartAsync(options);
    }

    private static bool CanOpen(string device)
    {
        try
        {
            File.OpenHandle(device, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite).Dispose();
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
